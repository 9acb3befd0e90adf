// The simulated machine. The model, in the terms of this file:
//
// An inode has a durable state and a current one: a file's bytes and size, a directory's names.
// Every change is made to the current state and appended to one list of operations, in the order of
// issue:
//   SIZE   a file's size becomes n (what lies beyond becomes zeros)
//   WRITE  images of whole sectors as the page cache held them after a write; a write past the end
//          is a SIZE and then a WRITE, so a file can have grown without its data, and the reverse
//   LINK   a directory gets a name for an inode (creation, mkdir, rename), the inode's only one
//   UNLINK a directory loses an inode's name
//   ATTRIBUTE  a file's attribute becomes another
// A sync makes the inode's current state its durable one and drops its operations from the list.
// After a sync that failed, the operations it should have covered are LOST: a later sync passes
// over them, so those it does cover stay in the list as SYNCED, because what a crash applies must
// be in order. A crash starts from the durable states and applies, in order, the SYNCED operations
// and of the others those that the policy picks; of a WRITE each sector on its own. Inodes that no
// name leads to are gone. An UNLINK or LINK that survives without an earlier change to the same
// inode leaves it one name at most.
//
// Assumed: sectors are atomic; a rename is atomic and stays in its directory; nothing that was
// synced is lost later; metadata operations may overtake each other and data (no journal keeps them
// in order).
#include "base/os_sim.h"
#include "base/assert.h"
#include "base/os_sim_int.h"

#include <stdlib.h>

#define START_WALL_MS 1700000000000ull

// splitmix64 (Steele, Lea, Flood 2014).
uint64_t sim_next_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

// The mutex of a const machine too: logically it stays the same.
void sim_hold(const struct os_sim *s)
{
    VERIFY(pthread_mutex_lock((pthread_mutex_t *)&s->mutex) == 0);
}

void sim_let_go(const struct os_sim *s)
{
    VERIFY(pthread_mutex_unlock((pthread_mutex_t *)&s->mutex) == 0);
}

// ---- inodes and operations ----

static void inode_clear(struct sim_inode *i)
{
    sim_bytes_unref(i->bytes);
    sim_bytes_unref(i->durable_bytes);
    sim_names_unref(i->names);
    sim_names_unref(i->durable_names);
    sim_blob_unref(i->attribute);
    sim_blob_unref(i->durable_attribute);
    *i = (struct sim_inode){0};
}

static void make_durable(struct sim_inode *i, bool attribute)
{
    if (attribute) {
        sim_blob_unref(i->durable_attribute);
        i->durable_attribute = sim_blob_ref(i->attribute);
    }
    sim_bytes_unref(i->durable_bytes);
    sim_names_unref(i->durable_names);
    i->durable_bytes = sim_bytes_ref(i->bytes);
    i->durable_names = sim_names_ref(i->names);
    i->durable_size = i->size;
}

// Marks what can be reached from inode n, now or after a crash.
static void mark(struct os_sim *s, uint32_t n)
{
    struct sim_inode *i = &s->inodes[n];
    if (i->marked)
        return;
    i->marked = true;
    uint32_t inode;
    for (size_t k = 0; k < sim_names_count(i->names); k++) {
        sim_names_at(i->names, k, &inode);
        mark(s, inode);
    }
    for (size_t k = 0; k < sim_names_count(i->durable_names); k++) {
        sim_names_at(i->durable_names, k, &inode);
        mark(s, inode);
    }
}

// Drops operation k's part in the books; its place in the list is the caller's to fill.
static void forget_op(struct os_sim *s, const struct sim_op *op)
{
    s->inodes[op->inode].ops--;
    sim_blob_unref(op->blob);
}

void sim_sweep(struct os_sim *s)
{
    for (uint32_t n = 1; n < s->inode_count; n++)
        s->inodes[n].marked = false;
    mark(s, SIM_ROOT);
    for (uint32_t n = 1; n < s->inode_count; n++)
        if (s->inodes[n].opens)
            mark(s, n);
    for (size_t k = 0; k < s->op_count; k++)
        if (s->ops[k].target)
            mark(s, s->ops[k].target);
    size_t kept = 0;
    for (size_t k = 0; k < s->op_count; k++) {
        if (s->inodes[s->ops[k].inode].marked)
            s->ops[kept++] = s->ops[k];
        else
            forget_op(s, &s->ops[k]);
    }
    s->op_count = kept;
    for (uint32_t n = 1; n < s->inode_count; n++)
        if (!s->inodes[n].marked)
            inode_clear(&s->inodes[n]);
}

static uint32_t unused_inode(const struct os_sim *s)
{
    for (uint32_t n = 1; n < s->inode_count; n++)
        if (s->inodes[n].kind == SIM_NO_INODE)
            return n;
    return 0;
}

uint32_t sim_new_inode(struct os_sim *s, enum sim_inode_kind kind)
{
    uint32_t n = unused_inode(s);
    if (!n) {
        sim_sweep(s);
        n = unused_inode(s);
    }
    if (!n) {
        n = s->inode_count;
        s->inode_count *= 2;
        s->inodes = sim_realloc(s->inodes, s->inode_count * sizeof *s->inodes);
        memset(s->inodes + n, 0, n * sizeof *s->inodes);
    }
    s->inodes[n].kind = kind;
    return n;
}

static void add_op(struct os_sim *s, struct sim_op op)
{
    if (s->op_count == s->op_cap) {
        s->op_cap = s->op_cap ? 2 * s->op_cap : 16;
        s->ops = sim_realloc(s->ops, s->op_cap * sizeof *s->ops);
    }
    s->inodes[op.inode].ops++;
    s->ops[s->op_count++] = op;
}

void sim_set_size(struct os_sim *s, uint32_t n, uint64_t size)
{
    struct sim_inode *i = &s->inodes[n];
    if (size == i->size)
        return;
    if (size < i->size)
        sim_bytes_cut(&i->bytes, size);
    if (i->charged > size)
        i->charged = size;
    i->size = size;
    add_op(s, (struct sim_op){.kind = SIM_OP_SIZE, .inode = n, .at = size});
}

void sim_write_bytes(struct os_sim *s, uint32_t n, const void *p, size_t len, uint64_t off)
{
    struct sim_inode *i = &s->inodes[n];
    if (len == 0)
        return;
    if (off + len > i->size)
        sim_set_size(s, n, off + len);
    if (off + len > i->charged)
        i->charged = off + len;
    sim_bytes_write(&i->bytes, p, len, off);
    uint64_t first = off / SIM_SECTOR;
    uint64_t end = (off + len + SIM_SECTOR - 1) / SIM_SECTOR;
    struct sim_blob *images = sim_blob_new((size_t)(end - first) * SIM_SECTOR);
    sim_bytes_read(i->bytes, sim_blob_data(images), sim_blob_size(images), first * SIM_SECTOR);
    add_op(s, (struct sim_op){.kind = SIM_OP_WRITE, .inode = n, .at = first, .blob = images});
}

void sim_link_inode(struct os_sim *s, uint32_t dir, struct slice text, uint32_t target)
{
    struct sim_blob *name = sim_blob_new(text.n);
    memcpy(sim_blob_data(name), text.p, text.n);
    uint32_t replaced = sim_names_find(s->inodes[dir].names, sim_blob_slice(name));
    if (replaced)
        s->inodes[replaced].named = false;
    s->inodes[target].named = true;
    sim_names_set(&s->inodes[dir].names, name, target);
    add_op(s, (struct sim_op){.kind = SIM_OP_LINK, .inode = dir, .target = target, .blob = name});
}

void sim_unlink_inode(struct os_sim *s, uint32_t dir, uint32_t target)
{
    s->inodes[target].named = false;
    sim_names_remove(&s->inodes[dir].names, target);
    add_op(s, (struct sim_op){.kind = SIM_OP_UNLINK, .inode = dir, .target = target});
}

void sim_set_attribute_of(struct os_sim *s, uint32_t n, struct slice name, struct slice value)
{
    struct sim_inode *i = &s->inodes[n];
    struct sim_blob *b = sim_blob_new(name.n + 1 + value.n);
    memcpy(sim_blob_data(b), name.p, name.n);
    sim_blob_data(b)[name.n] = 0;
    memcpy(sim_blob_data(b) + name.n + 1, value.p, value.n);
    sim_blob_unref(i->attribute);
    i->attribute = sim_blob_ref(b);
    add_op(s, (struct sim_op){.kind = SIM_OP_ATTRIBUTE, .inode = n, .blob = b});
}

// Whether a sync covers the operation.
static bool covers(uint32_t n, bool attribute, const struct sim_op *op)
{
    return op->inode == n && (attribute || op->kind != SIM_OP_ATTRIBUTE);
}

void sim_sync_inode(struct os_sim *s, uint32_t n, bool attribute, bool good)
{
    struct sim_inode *i = &s->inodes[n];
    if (!i->ops)
        return;
    bool any_lost = false;
    for (size_t k = 0; k < s->op_count; k++) {
        struct sim_op *op = &s->ops[k];
        if (!covers(n, attribute, op))
            continue;
        if (op->state == SIM_OP_PENDING)
            op->state = good ? SIM_OP_SYNCED : SIM_OP_LOST;
        any_lost = any_lost || op->state == SIM_OP_LOST;
    }
    if (any_lost)
        return;
    make_durable(i, attribute);
    size_t kept = 0;
    for (size_t k = 0; k < s->op_count; k++) {
        if (!covers(n, attribute, &s->ops[k]))
            s->ops[kept++] = s->ops[k];
        else
            forget_op(s, &s->ops[k]);
    }
    s->op_count = kept;
}

// ---- the machine ----

// Without inodes yet.
static struct os_sim *new_machine(uint64_t seed, uint32_t inode_count)
{
    struct os_sim *s = sim_alloc(sizeof *s);
    *s = (struct os_sim){
        .os = {&sim_calls},
        .inode_count = inode_count,
        .power_left = UINT64_MAX,
        .capacity = UINT64_MAX,
        .random = seed,
        .wall_us = START_WALL_MS * 1000,
        .mono_us = 1000000,
    };
    VERIFY(pthread_mutex_init(&s->mutex, NULL) == 0);
    s->inodes = sim_alloc(inode_count * sizeof *s->inodes);
    memset(s->inodes, 0, inode_count * sizeof *s->inodes);
    return s;
}

struct os_sim *sim_new(uint64_t seed)
{
    struct os_sim *s = new_machine(seed, 16);
    s->inodes[SIM_ROOT] = (struct sim_inode){.kind = SIM_DIR_INODE, .named = true};
    return s;
}

void sim_free(struct os_sim *s)
{
    if (!s)
        return;
    for (size_t k = 0; k < s->op_count; k++)
        sim_blob_unref(s->ops[k].blob);
    for (uint32_t n = 1; n < s->inode_count; n++)
        inode_clear(&s->inodes[n]);
    VERIFY(pthread_mutex_destroy(&s->mutex) == 0);
    free(s->ops);
    free(s->inodes);
    free(s->handles);
    free(s);
}

struct os *sim_os(struct os_sim *s)
{
    return &s->os;
}

struct os_sim *sim_clone(const struct os_sim *s)
{
    sim_hold(s);
    struct os_sim *c = new_machine(s->random, s->inode_count);
    for (uint32_t n = 1; n < s->inode_count; n++) {
        struct sim_inode *to = &c->inodes[n];
        *to = s->inodes[n];
        to->opens = 0;
        to->locked = false;
        sim_bytes_ref(to->bytes);
        sim_bytes_ref(to->durable_bytes);
        sim_names_ref(to->names);
        sim_names_ref(to->durable_names);
        sim_blob_ref(to->attribute);
        sim_blob_ref(to->durable_attribute);
    }
    c->op_count = c->op_cap = s->op_count;
    c->ops = sim_alloc(s->op_count * sizeof *s->ops);
    for (size_t k = 0; k < s->op_count; k++) {
        c->ops[k] = s->ops[k];
        sim_blob_ref(c->ops[k].blob);
    }
    memcpy(c->faults, s->faults, sizeof c->faults);
    c->steps = s->steps;
    c->power_left = s->power_left;
    c->capacity = s->capacity;
    c->wall_us = s->wall_us;
    c->mono_us = s->mono_us;
    sim_let_go(s);
    return c;
}

// Who picks the operations that survive a crash.
struct picker {
    enum sim_survival how;
    uint64_t detail;
    uint64_t random;
    uint64_t nth; // of the unsynced operations, from 1
    uint64_t coins;
    unsigned coins_left;
    unsigned bias; // of 16 coins, how many say yes
};

static void picker_init(struct picker *p, enum sim_survival how, uint64_t detail, uint64_t seed)
{
    static const uint8_t biases[] = {8, 8, 8, 8, 1, 4, 12, 15};
    *p = (struct picker){.how = how, .detail = detail, .random = seed};
    p->bias = biases[sim_next_random(&p->random) % sizeof biases];
}

static bool toss(struct picker *p)
{
    if (p->coins_left == 0) {
        p->coins = sim_next_random(&p->random);
        p->coins_left = 16;
    }
    unsigned coin = p->coins & 15;
    p->coins >>= 4;
    p->coins_left--;
    return coin < p->bias;
}

static bool pick(struct picker *p)
{
    switch (p->how) {
    case SIM_NONE:
        return false;
    case SIM_ALL:
        return true;
    case SIM_RANDOM:
        return toss(p);
    case SIM_PREFIX:
        return p->nth <= p->detail;
    case SIM_SINGLE:
        break;
    }
    return p->nth == p->detail;
}

static void survive_write(struct sim_inode *i, const struct sim_op *op, struct picker *p)
{
    const uint8_t *images = sim_blob_data(op->blob);
    size_t n = sim_blob_size(op->blob);
    bool each = op->state != SIM_OP_SYNCED && p->how == SIM_RANDOM;
    if (!each) {
        sim_bytes_write(&i->bytes, images, n, op->at * SIM_SECTOR);
        return;
    }
    for (size_t at = 0; at < n; at += SIM_SECTOR)
        if (toss(p))
            sim_bytes_write(&i->bytes, images + at, SIM_SECTOR, op->at * SIM_SECTOR + at);
}

static void survive(struct os_sim *c, const struct sim_op *op, struct picker *p)
{
    struct sim_inode *i = &c->inodes[op->inode];
    switch (op->kind) {
    case SIM_OP_SIZE:
        if (op->at < i->size)
            sim_bytes_cut(&i->bytes, op->at);
        i->size = op->at;
        break;
    case SIM_OP_WRITE:
        survive_write(i, op, p);
        break;
    case SIM_OP_LINK:
        sim_names_set(&i->names, op->blob, op->target);
        break;
    case SIM_OP_UNLINK:
        sim_names_remove(&i->names, op->target);
        break;
    case SIM_OP_ATTRIBUTE:
        sim_blob_unref(i->attribute);
        i->attribute = sim_blob_ref(op->blob);
        break;
    }
}

struct os_sim *sim_crash(const struct os_sim *s, enum sim_survival how, uint64_t detail,
                         uint64_t seed)
{
    sim_hold(s);
    struct os_sim *c = new_machine(seed, s->inode_count);
    c->capacity = s->capacity;
    c->wall_us = s->wall_us;
    c->mono_us = s->mono_us;
    for (uint32_t n = 1; n < s->inode_count; n++) {
        const struct sim_inode *from = &s->inodes[n];
        c->inodes[n] = (struct sim_inode){
            .kind = from->kind,
            .named = true, // or swept below
            .bytes = sim_bytes_ref(from->durable_bytes),
            .names = sim_names_ref(from->durable_names),
            .attribute = sim_blob_ref(from->durable_attribute),
            .size = from->durable_size,
        };
    }
    struct picker p;
    picker_init(&p, how, detail, seed);
    for (size_t k = 0; k < s->op_count; k++) {
        const struct sim_op *op = &s->ops[k];
        bool synced = op->state == SIM_OP_SYNCED;
        if (!synced)
            p.nth++;
        bool by_sector = op->kind == SIM_OP_WRITE && how == SIM_RANDOM;
        if (synced || by_sector || pick(&p))
            survive(c, op, &p);
    }
    for (uint32_t n = 1; n < c->inode_count; n++) {
        struct sim_inode *i = &c->inodes[n];
        if (s->inodes[n].ops)
            sim_bytes_cut(&i->bytes, i->size); // sectors that came through beyond the end
        i->charged = i->size;
        make_durable(i, true);
    }
    sim_let_go(s);
    sim_sweep(c);
    return c;
}

uint64_t sim_pending(const struct os_sim *s)
{
    uint64_t pending = 0;
    sim_hold(s);
    for (size_t k = 0; k < s->op_count; k++)
        pending += s->ops[k].state != SIM_OP_SYNCED;
    sim_let_go(s);
    return pending;
}
