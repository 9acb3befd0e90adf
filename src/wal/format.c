#include "wal/format.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static const char magic[8] = {'v', 'a', 'r', 'v', 'e', 'w', 'a', 'l'};

void wal_header_put(uint8_t *block, const struct wal_header *h)
{
    memset(block, 0, WAL_HEADER);
    memcpy(block, magic, sizeof magic);
    store32(block + 12, WAL_VERSION);
    store64(block + 16, h->store_id);
    store64(block + 24, h->number);
    store64(block + 32, h->first);
    store64(block + 40, h->salt);
    store64(block + 48, h->synced);
    store32(block + 8, crc32c(0, block + 12, WAL_HEADER - 12));
}

enum err wal_header_get(const uint8_t *block, struct wal_header *h, const char *file,
                        struct errmsg *msg)
{
    if (memcmp(block, magic, sizeof magic) != 0)
        return err_set(msg, ERR_DAMAGED, "%s: does not begin with a log segment's magic number",
                       file);
    if (load32(block + 8) != crc32c(0, block + 12, WAL_HEADER - 12))
        return err_set(msg, ERR_DAMAGED, "%s: the header's checksum is wrong", file);
    uint32_t version = load32(block + 12);
    if (version != WAL_VERSION)
        return err_set(msg, ERR_FORMAT,
                       "%s: log format version %" PRIu32 ", this program reads version %d", file,
                       version, WAL_VERSION);
    h->store_id = load64(block + 16);
    h->number = load64(block + 24);
    h->first = load64(block + 32);
    h->salt = load64(block + 40);
    h->synced = load64(block + 48);
    if (h->first == 0 || h->synced < h->first - 1)
        return err_set(msg, ERR_DAMAGED, "%s: the header contradicts itself", file);
    return ERR_OK;
}

void wal_segment_name(char name[WAL_NAME], uint64_t number)
{
    snprintf(name, WAL_NAME, "%020" PRIu64 ".wal", number);
}

void wal_spare_name(char name[WAL_NAME], uint64_t id)
{
    snprintf(name, WAL_NAME, "spare-%" PRIu64 ".tmp", id);
}

bool wal_is_segment(const char *name, uint64_t *number)
{
    char again[WAL_NAME];
    *number = strtoull(name, NULL, 10);
    wal_segment_name(again, *number);
    return strcmp(name, again) == 0;
}

bool wal_is_spare(const char *name, uint64_t *id)
{
    char again[WAL_NAME];
    if (strncmp(name, "spare-", 6) != 0)
        return false;
    *id = strtoull(name + 6, NULL, 10);
    wal_spare_name(again, *id);
    return strcmp(name, again) == 0;
}
