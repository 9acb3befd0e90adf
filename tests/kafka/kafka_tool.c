// Kafka for tests, driven by lines on standard input: librdkafka's mock cluster, or a real one
// (--bootstrap ADDR). Each command is answered by one line, "ok ..." or "error ...", after what it
// prints.
//
//   topic NAME PARTITIONS           makes a topic
//   produce TOPIC PARTITION KEY VALUE [NAME VALUE]...   all but names in hex, "-" none, "." empty
//   bulk TOPIC FIRST COUNT SIZE KEYS   COUNT records of SIZE bytes that begin with their number,
//                                   from FIRST on, number i with key "k{i mod KEYS}" into partition
//                                   i mod partitions; KEYS 0: no keys
//   flush                           waits for what was produced
//   read TOPIC                      prints all records: partition offset key value name=value...
//   committed GROUP TOPIC           prints "partition offset" (-1: none)
//   down ID, up ID                  a broker of the mock cluster
//   fail API CODE COUNT             the next requests of this kind fail (mock)
//   topic-error NAME CODE           what metadata say of a topic (mock)
#include "base/slice.h"
#include <inttypes.h>
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORDS = 64, PATIENCE_MS = 30000, LINE = 4 << 20 };

static rd_kafka_mock_cluster_t *mock;
static rd_kafka_t *mock_owner;
static char bootstrap[500];
static rd_kafka_t *producer;
static unsigned long long produced, failed;

static void die(const char *what, const char *why)
{
    fprintf(stderr, "kafka_tool: %s: %s\n", what, why);
    exit(1);
}

static void set(rd_kafka_conf_t *c, const char *name, const char *value)
{
    char why[300];
    if (rd_kafka_conf_set(c, name, value, why, sizeof why))
        die(name, why);
}

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *m, void *arg)
{
    failed += m->err != 0;
}

static rd_kafka_t *client(rd_kafka_type_t type, const char *group)
{
    char why[300];
    rd_kafka_conf_t *c = rd_kafka_conf_new();
    set(c, "bootstrap.servers", bootstrap);
    if (type == RD_KAFKA_PRODUCER) {
        set(c, "linger.ms", "5");
        set(c, "enable.idempotence", "true"); // else a retry may change the order
        set(c, "queue.buffering.max.messages", "1000000");
        set(c, "batch.num.messages", "2000");
        rd_kafka_conf_set_dr_msg_cb(c, on_delivery);
    } else {
        set(c, "group.id", group);
        set(c, "enable.auto.commit", "false");
        set(c, "enable.partition.eof", "true");
        set(c, "auto.offset.reset", "earliest");
    }
    rd_kafka_t *rk = rd_kafka_new(type, c, why, sizeof why);
    if (!rk)
        die("client", why);
    return rk;
}

// ---- hex

static int nibble(char c)
{
    return c >= 'a' ? c - 'a' + 10 : c - '0';
}

// In place; NULL for "-".
static void *unhex(char *word, size_t *n)
{
    *n = 0;
    if (!strcmp(word, "-"))
        return NULL;
    if (!strcmp(word, "."))
        return word;
    for (; word[2 * *n]; ++*n)
        word[*n] = (char)(nibble(word[2 * *n]) << 4 | nibble(word[2 * *n + 1]));
    return word;
}

static void print_hex(const void *p, size_t n)
{
    if (!p || !n)
        fputs(p ? "." : "-", stdout);
    for (size_t i = 0; i < n; i++)
        printf("%02x", ((const uint8_t *)p)[i]);
}

// ---- commands; NULL or what went wrong

static int partitions_of(const char *topic)
{
    const struct rd_kafka_metadata *md;
    rd_kafka_topic_t *t = rd_kafka_topic_new(producer, topic, NULL);
    int n = 0;
    if (!rd_kafka_metadata(producer, 0, t, &md, PATIENCE_MS)) {
        n = md->topic_cnt ? md->topics[0].partition_cnt : 0;
        rd_kafka_metadata_destroy(md);
    }
    rd_kafka_topic_destroy(t);
    return n;
}

static const char *make_topic(const char *name, int partitions)
{
    static char why[300];
    if (mock) {
        rd_kafka_resp_err_t e = rd_kafka_mock_topic_create(mock, name, partitions, 1);
        return e ? rd_kafka_err2str(e) : NULL;
    }
    rd_kafka_NewTopic_t *t = rd_kafka_NewTopic_new(name, partitions, 1, why, sizeof why);
    rd_kafka_queue_t *q = rd_kafka_queue_new(producer);
    if (!t)
        return why;
    rd_kafka_CreateTopics(producer, &t, 1, NULL, q);
    rd_kafka_event_t *ev = rd_kafka_queue_poll(q, PATIENCE_MS);
    const char *wrong = ev ? NULL : "no answer";
    if (ev && rd_kafka_event_error(ev))
        wrong = rd_kafka_event_error_string(ev);
    snprintf(why, sizeof why, "%s", wrong ? wrong : "");
    if (ev)
        rd_kafka_event_destroy(ev);
    rd_kafka_queue_destroy(q);
    rd_kafka_NewTopic_destroy(t);
    return *why ? why : NULL;
}

static const char *produce(char **w, int n)
{
    size_t key_n, value_n, header_n;
    void *key = unhex(w[3], &key_n), *value = unhex(w[4], &value_n);
    rd_kafka_headers_t *h = rd_kafka_headers_new(4);
    for (int i = 5; i + 1 < n; i += 2) {
        const void *p = unhex(w[i + 1], &header_n);
        rd_kafka_header_add(h, w[i], -1, p, (ssize_t)header_n);
    }
    rd_kafka_resp_err_t e;
    do {
        e = rd_kafka_producev(
            producer, RD_KAFKA_V_TOPIC(w[1]), RD_KAFKA_V_PARTITION((int32_t)strtol(w[2], NULL, 10)),
            RD_KAFKA_V_KEY(key, key_n), RD_KAFKA_V_VALUE(value, value_n), RD_KAFKA_V_HEADERS(h),
            RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
        rd_kafka_poll(producer, e ? 10 : 0);
    } while (e == RD_KAFKA_RESP_ERR__QUEUE_FULL);
    produced += !e;
    return e ? rd_kafka_err2str(e) : NULL;
}

static const char *bulk(char **w)
{
    unsigned long long first = strtoull(w[2], NULL, 10), count = strtoull(w[3], NULL, 10);
    size_t size = strtoull(w[4], NULL, 10);
    unsigned long long keys = strtoull(w[5], NULL, 10);
    int partitions = partitions_of(w[1]);
    char *value = malloc(size + 32), key[32];
    if (!partitions || !value)
        return "no such topic";
    rd_kafka_topic_t *t = rd_kafka_topic_new(producer, w[1], NULL);
    memset(value, '.', size + 32);
    for (unsigned long long i = first; i < first + count;) {
        int n = snprintf(value, 32, "%020llu", i);
        value[n] = '.';
        int key_n = keys ? snprintf(key, sizeof key, "k%llu", i % keys) : 0;
        if (rd_kafka_produce(t, (int32_t)(i % (unsigned)partitions), RD_KAFKA_MSG_F_COPY, value,
                             size, keys ? key : NULL, (size_t)key_n, NULL)) {
            rd_kafka_poll(producer, 10);
            continue;
        }
        i++;
        produced++;
        if (i % 1024 == 0)
            rd_kafka_poll(producer, 0);
    }
    rd_kafka_topic_destroy(t);
    free(value);
    return NULL;
}

static const char *flush(void)
{
    static char why[100];
    rd_kafka_resp_err_t e = rd_kafka_flush(producer, PATIENCE_MS);
    snprintf(why, sizeof why, "%llu of %llu failed", failed, produced);
    return e ? rd_kafka_err2str(e) : failed ? why : NULL;
}

static void print_record(const rd_kafka_message_t *m)
{
    rd_kafka_headers_t *h;
    const char *name;
    const void *value;
    size_t n;
    printf("%" PRId32 " %" PRId64 " ", m->partition, m->offset);
    print_hex(m->key, m->key_len);
    putchar(' ');
    print_hex(m->payload, m->len);
    for (size_t i = 0;
         !rd_kafka_message_headers(m, &h) && !rd_kafka_header_get_all(h, i, &name, &value, &n);
         i++) {
        printf(" %s=", name);
        print_hex(value, n);
    }
    putchar('\n');
}

static const char *read_topic(const char *topic)
{
    int left = partitions_of(topic);
    rd_kafka_t *rk = client(RD_KAFKA_CONSUMER, "kafka_tool");
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(left);
    for (int i = 0; i < left; i++)
        rd_kafka_topic_partition_list_add(list, topic, i)->offset = RD_KAFKA_OFFSET_BEGINNING;
    rd_kafka_assign(rk, list);
    while (left) {
        rd_kafka_message_t *m = rd_kafka_consumer_poll(rk, PATIENCE_MS);
        if (!m)
            break;
        if (!m->err)
            print_record(m);
        left -= m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF;
        rd_kafka_message_destroy(m);
    }
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_destroy(rk);
    return left ? "not all was read" : NULL;
}

static const char *committed(const char *group, const char *topic)
{
    int n = partitions_of(topic);
    rd_kafka_t *rk = client(RD_KAFKA_CONSUMER, group);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(n);
    for (int i = 0; i < n; i++)
        rd_kafka_topic_partition_list_add(list, topic, i);
    rd_kafka_resp_err_t e = rd_kafka_committed(rk, list, PATIENCE_MS);
    for (int i = 0; i < n && !e; i++)
        printf("%d %" PRId64 "\n", i,
               list->elems[i].offset < 0 ? (int64_t)-1 : list->elems[i].offset);
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_destroy(rk);
    return e ? rd_kafka_err2str(e) : NULL;
}

static const char *fail(char **w)
{
    rd_kafka_resp_err_t errors[100];
    size_t n = strtoul(w[3], NULL, 10);
    for (size_t i = 0; i < n && i < 100; i++)
        errors[i] = (rd_kafka_resp_err_t)strtol(w[2], NULL, 10);
    rd_kafka_mock_push_request_errors_array(mock, (int16_t)strtol(w[1], NULL, 10),
                                            n < 100 ? n : 100, errors);
    return NULL;
}

static const char *command(char **w, int n)
{
    if (!strcmp(w[0], "produce") && n >= 5)
        return produce(w, n);
    if (!strcmp(w[0], "topic") && n == 3)
        return make_topic(w[1], (int)strtol(w[2], NULL, 10));
    if (!strcmp(w[0], "bulk") && n == 6)
        return bulk(w);
    if (!strcmp(w[0], "flush"))
        return flush();
    if (!strcmp(w[0], "read") && n == 2)
        return read_topic(w[1]);
    if (!strcmp(w[0], "committed") && n == 3)
        return committed(w[1], w[2]);
    if (!strcmp(w[0], "down") && n == 2 && mock)
        return rd_kafka_mock_broker_set_down(mock, (int32_t)strtol(w[1], NULL, 10)) ? "none" : NULL;
    if (!strcmp(w[0], "up") && n == 2 && mock)
        return rd_kafka_mock_broker_set_up(mock, (int32_t)strtol(w[1], NULL, 10)) ? "none" : NULL;
    if (!strcmp(w[0], "topic-error") && n == 3 && mock) {
        rd_kafka_mock_topic_set_error(mock, w[1], (rd_kafka_resp_err_t)strtol(w[2], NULL, 10));
        return NULL;
    }
    if (!strcmp(w[0], "fail") && n == 4 && mock)
        return fail(w);
    return "no such command";
}

int main(int argc, char **argv)
{
    char *line = malloc(LINE), *words[WORDS], why[300];
    if (argc == 3 && !strcmp(argv[1], "--bootstrap")) {
        snprintf(bootstrap, sizeof bootstrap, "%s", argv[2]);
    } else {
        int brokers = argc == 2 ? (int)strtol(argv[1], NULL, 10) : 1;
        mock_owner = rd_kafka_new(RD_KAFKA_PRODUCER, rd_kafka_conf_new(), why, sizeof why);
        mock = mock_owner ? rd_kafka_mock_cluster_new(mock_owner, brokers) : NULL;
        if (!mock)
            die("mock cluster", why);
        snprintf(bootstrap, sizeof bootstrap, "%s", rd_kafka_mock_cluster_bootstraps(mock));
    }
    producer = client(RD_KAFKA_PRODUCER, NULL);
    printf("ok %s\n", bootstrap);
    fflush(stdout);
    while (line && fgets(line, LINE, stdin)) {
        int n = 0;
        char *save = NULL;
        for (char *w = strtok_r(line, " \n", &save); w && n < WORDS;
             w = strtok_r(NULL, " \n", &save))
            words[n++] = w;
        const char *wrong = n ? command(words, n) : "an empty line";
        printf(wrong ? "error %s\n" : "ok\n", wrong);
        fflush(stdout);
    }
    rd_kafka_destroy(producer);
    if (mock) {
        rd_kafka_mock_cluster_destroy(mock);
        rd_kafka_destroy(mock_owner);
    }
    free(line);
    return 0;
}
