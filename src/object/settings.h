// [s3] of a configuration (base/config.h, CONFIG_S3) as the options of a store. For those who have
// both, so that base need not know of stores, nor the library of configurations.
#ifndef VARVE_OBJECT_SETTINGS_H
#define VARVE_OBJECT_SETTINGS_H

#include "base/config.h"
#include "object/object.h"

// The text is the configuration's.
static inline struct object_s3_options object_s3_settings(const struct config *c)
{
#define TEXT(name) config_text(c, config_id(c, "s3." name))
#define FLAG(name) config_is(c, config_id(c, "s3." name), "true")
    return (struct object_s3_options){.bucket = TEXT("bucket_name"),
                                      .endpoint = TEXT("endpoint"),
                                      .region = TEXT("region"),
                                      .path_style = FLAG("path_style"),
                                      .use_default_credentials = FLAG("use_default_credentials"),
                                      .access_key = TEXT("access_key"),
                                      .secret_key = TEXT("secret_key"),
                                      .security_token = TEXT("security_token"),
                                      .session_token = TEXT("session_token"),
                                      .profile = TEXT("profile"),
                                      .ca_file = TEXT("ca_file"),
                                      .hash_payload = FLAG("hash_payload")};
#undef TEXT
#undef FLAG
}

#endif
