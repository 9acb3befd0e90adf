// [s3] and [batcher] of a configuration (base/config.h) as the options of writers.
#ifndef VARVE_ARCHIVE_SETTINGS_H
#define VARVE_ARCHIVE_SETTINGS_H

#include "archive/batcher.h"
#include "base/config.h"

#define NUMBER(name) config_number(c, config_id(c, name))

static inline struct archive_options archive_settings(const struct config *c)
{
    return (struct archive_options){
        .compact_records_threshold = NUMBER("s3.compact_records_threshold"),
        .compact_size_threshold = NUMBER("s3.compact_size_threshold"),
        .compact_objects_threshold = NUMBER("s3.compact_objects_threshold"),
        .max_cached_keys = NUMBER("s3.max_cached_keys"),
        .default_page_size = NUMBER("s3.default_page_size")};
}

static inline struct archive_batcher_options archive_batcher_settings(const struct config *c)
{
    return (struct archive_batcher_options){
        .writer_thread_count = (unsigned)NUMBER("batcher.writer_thread_count"),
        .writer_thread_queue_capacity = NUMBER("batcher.writer_thread_queue_capacity"),
        .batch_check_interval_millis = NUMBER("batcher.batch_check_interval_millis"),
        .batch_flush_interval_millis = NUMBER("batcher.batch_flush_interval_millis"),
        .batch_flush_record_count_threshold = NUMBER("batcher.batch_flush_record_count_threshold"),
        .batch_flush_size_threshold = NUMBER("batcher.batch_flush_size_threshold")};
}

#undef NUMBER

#endif
