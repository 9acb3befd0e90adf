// Copy-on-write contents and directories for the simulated disk.
#include "base/os_sim_int.h"
#include "base/assert.h"

#include <stdatomic.h>
#include <stdlib.h>

#define PAGE 4096u

typedef _Atomic uint32_t counter;

static void count_up(counter *refs)
{
    atomic_fetch_add_explicit(refs, 1, memory_order_relaxed);
}

// True when that was the last.
static bool count_down(counter *refs)
{
    return atomic_fetch_sub_explicit(refs, 1, memory_order_acq_rel) == 1;
}

static bool is_shared(counter *refs)
{
    return atomic_load_explicit(refs, memory_order_acquire) > 1;
}

void *sim_alloc(size_t n)
{
    return sim_realloc(NULL, n);
}

void *sim_realloc(void *p, size_t n)
{
    p = realloc(p, n ? n : 1);
    VERIFY(p);
    return p;
}

struct sim_blob {
    counter refs;
    size_t n;
    uint8_t data[];
};

struct sim_blob *sim_blob_new(size_t n)
{
    struct sim_blob *b = sim_alloc(sizeof *b + n);
    atomic_init(&b->refs, 1);
    b->n = n;
    return b;
}

uint8_t *sim_blob_data(struct sim_blob *b)
{
    return b->data;
}

size_t sim_blob_size(const struct sim_blob *b)
{
    return b->n;
}

struct slice sim_blob_slice(const struct sim_blob *b)
{
    return slice_of(b->data, b->n);
}

struct sim_blob *sim_blob_ref(struct sim_blob *b)
{
    if (b)
        count_up(&b->refs);
    return b;
}

void sim_blob_unref(struct sim_blob *b)
{
    if (b && count_down(&b->refs))
        free(b);
}

struct page {
    counter refs;
    uint8_t data[PAGE];
};

struct sim_bytes {
    counter refs;
    uint32_t count;
    struct page *pages[]; // NULL: zeros
};

static void page_unref(struct page *p)
{
    if (p && count_down(&p->refs))
        free(p);
}

struct sim_bytes *sim_bytes_ref(struct sim_bytes *b)
{
    if (b)
        count_up(&b->refs);
    return b;
}

void sim_bytes_unref(struct sim_bytes *b)
{
    if (!b || !count_down(&b->refs))
        return;
    for (uint32_t i = 0; i < b->count; i++)
        page_unref(b->pages[i]);
    free(b);
}

void sim_bytes_read(const struct sim_bytes *b, void *to, size_t n, uint64_t off)
{
    for (uint8_t *at = to; n;) {
        uint64_t i = off / PAGE;
        size_t skip = off % PAGE;
        size_t part = PAGE - skip < n ? PAGE - skip : n;
        if (b && i < b->count && b->pages[i])
            memcpy(at, b->pages[i]->data + skip, part);
        else
            memset(at, 0, part);
        at += part;
        off += part;
        n -= part;
    }
}

// Makes the table of pages ours alone, and at least `count` long.
static void own_table(struct sim_bytes **b, uint32_t count)
{
    struct sim_bytes *old = *b;
    uint32_t had = old ? old->count : 0;
    if (old && !is_shared(&old->refs)) {
        if (had >= count)
            return;
        *b = sim_realloc(old, sizeof **b + count * sizeof(struct page *));
    } else {
        count = count > had ? count : had;
        *b = sim_alloc(sizeof **b + count * sizeof(struct page *));
        atomic_init(&(*b)->refs, 1);
        for (uint32_t i = 0; i < had; i++) {
            (*b)->pages[i] = old->pages[i];
            if (old->pages[i])
                count_up(&old->pages[i]->refs);
        }
        sim_bytes_unref(old);
    }
    for (uint32_t i = had; i < count; i++)
        (*b)->pages[i] = NULL;
    (*b)->count = count;
}

// Makes a page ours alone; `keep` is false if all of it is about to be written.
static uint8_t *own_page(struct page **p, bool keep)
{
    struct page *old = *p;
    if (old && !is_shared(&old->refs))
        return old->data;
    *p = sim_alloc(sizeof **p);
    atomic_init(&(*p)->refs, 1);
    if (keep && old)
        memcpy((*p)->data, old->data, PAGE);
    else if (keep)
        memset((*p)->data, 0, PAGE);
    page_unref(old);
    return (*p)->data;
}

void sim_bytes_write(struct sim_bytes **b, const void *from, size_t n, uint64_t off)
{
    if (n == 0)
        return;
    own_table(b, (uint32_t)((off + n + PAGE - 1) / PAGE));
    for (const uint8_t *at = from; n;) {
        size_t skip = off % PAGE;
        size_t part = PAGE - skip < n ? PAGE - skip : n;
        memcpy(own_page(&(*b)->pages[off / PAGE], part < PAGE) + skip, at, part);
        at += part;
        off += part;
        n -= part;
    }
}

void sim_bytes_cut(struct sim_bytes **b, uint64_t off)
{
    uint64_t first = off / PAGE;
    if (!*b || first >= (*b)->count)
        return;
    own_table(b, 0);
    if (off % PAGE && (*b)->pages[first]) {
        uint8_t *data = own_page(&(*b)->pages[first], true);
        memset(data + off % PAGE, 0, PAGE - off % PAGE);
    }
    uint32_t keep = (uint32_t)(first + (off % PAGE != 0));
    for (uint32_t i = keep; i < (*b)->count; i++)
        page_unref((*b)->pages[i]);
    (*b)->count = keep;
}

struct entry {
    struct sim_blob *name;
    uint32_t inode;
};

struct sim_names {
    counter refs;
    uint32_t count;
    uint32_t cap;
    struct entry entries[];
};

struct sim_names *sim_names_ref(struct sim_names *d)
{
    if (d)
        count_up(&d->refs);
    return d;
}

void sim_names_unref(struct sim_names *d)
{
    if (!d || !count_down(&d->refs))
        return;
    for (uint32_t i = 0; i < d->count; i++)
        sim_blob_unref(d->entries[i].name);
    free(d);
}

size_t sim_names_count(const struct sim_names *d)
{
    return d ? d->count : 0;
}

struct sim_blob *sim_names_at(const struct sim_names *d, size_t i, uint32_t *inode)
{
    *inode = d->entries[i].inode;
    return d->entries[i].name;
}

uint32_t sim_names_find(const struct sim_names *d, struct slice name)
{
    for (uint32_t i = 0; d && i < d->count; i++)
        if (slice_equal(sim_blob_slice(d->entries[i].name), name))
            return d->entries[i].inode;
    return 0;
}

// Makes the directory ours alone, with room for one more entry.
static struct sim_names *own_names(struct sim_names **d)
{
    struct sim_names *old = *d;
    uint32_t count = old ? old->count : 0;
    if (old && !is_shared(&old->refs)) {
        if (old->cap > count)
            return old;
        *d = sim_realloc(old, sizeof **d + 2 * count * sizeof(struct entry));
        (*d)->cap = 2 * count;
        return *d;
    }
    uint32_t cap = count + 4;
    *d = sim_alloc(sizeof **d + cap * sizeof(struct entry));
    atomic_init(&(*d)->refs, 1);
    (*d)->cap = cap;
    (*d)->count = count;
    for (uint32_t i = 0; i < count; i++) {
        (*d)->entries[i] = old->entries[i];
        sim_blob_ref(old->entries[i].name);
    }
    sim_names_unref(old);
    return *d;
}

void sim_names_remove(struct sim_names **d, uint32_t inode)
{
    for (uint32_t i = 0; *d && i < (*d)->count; i++) {
        if ((*d)->entries[i].inode != inode)
            continue;
        struct sim_names *own = own_names(d);
        sim_blob_unref(own->entries[i].name);
        own->entries[i] = own->entries[--own->count];
        return;
    }
}

void sim_names_set(struct sim_names **d, struct sim_blob *name, uint32_t inode)
{
    sim_names_remove(d, inode);
    uint32_t replaced = sim_names_find(*d, sim_blob_slice(name));
    if (replaced)
        sim_names_remove(d, replaced);
    struct sim_names *own = own_names(d);
    own->entries[own->count++] = (struct entry){sim_blob_ref(name), inode};
}
