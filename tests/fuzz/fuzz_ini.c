// INI files (base/ini.h): the server's configuration and the bridge's. Properties: what is refused
// says where; keys come in the order of their lines, one a line at most; reading is a pure
// function of the bytes.
#include "base/buf.h"
#include "base/ini.h"
#include "fuzz.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

struct reading {
    unsigned last; // line
    size_t keys;
    struct buf out;
};

static enum err take(void *arg, const struct ini_key *k, struct errmsg *msg)
{
    struct reading *r = arg;
    (void)msg;
    VERIFY(k->line > r->last);
    VERIFY(!strpbrk(k->section, "\n]") && !strchr(k->name, '\n'));
    VERIFY(!strchr(k->value, '\n'));
    VERIFY(strstr(k->where, ":"));
    r->last = k->line;
    r->keys++;
    return buf_printf(&r->out, "%s.%s=%s\n", k->section, k->name, k->value);
}

static enum err read_bytes(struct reading *r, const uint8_t *data, size_t n, struct errmsg *msg)
{
    char path[64];
    int fd = memfd_create("ini", MFD_CLOEXEC);
    VERIFY(fd >= 0);
    for (size_t at = 0; at < n;) {
        ssize_t wrote = write(fd, data + at, n - at);
        VERIFY(wrote > 0);
        at += (size_t)wrote;
    }
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    *r = (struct reading){.last = 0};
    buf_init(&r->out, 1 << 20);
    enum err e = ini_read(path, take, r, msg);
    close(fd);
    return e;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct reading once, again;
    struct errmsg msg = {""};
    enum err e = read_bytes(&once, data, n, &msg);
    VERIFY(!e || msg.text[0]);
    size_t lines = 1;
    for (size_t i = 0; i < n; i++)
        lines += data[i] == '\n';
    VERIFY(once.last <= lines && once.keys <= lines);
    enum err same = read_bytes(&again, data, n, &msg);
    VERIFY(same == e && slice_equal(buf_slice(&once.out), buf_slice(&again.out)));
    buf_release(&once.out);
    buf_release(&again.out);
    return 0;
}
