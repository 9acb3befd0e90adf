// Where the keys come from. In this order, and the first that has any wins:
//   1. access_key and secret_key of the options
//   and if use_default_credentials is on:
//   2. AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, unless the options name a
//   profile
//   3. the profile in AWS_SHARED_CREDENTIALS_FILE (~/.aws/credentials), then AWS_CONFIG_FILE
//      (~/.aws/config): the options' profile, AWS_PROFILE, or "default". A profile that the options
//      name must be there
//   4. a container's: AWS_CONTAINER_CREDENTIALS_RELATIVE_URI (at 169.254.170.2) or
//      AWS_CONTAINER_CREDENTIALS_FULL_URI, with AWS_CONTAINER_AUTHORIZATION_TOKEN or what the file
//      AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE names
//   5. the instance's (IMDSv2, at AWS_EC2_METADATA_SERVICE_ENDPOINT or 169.254.169.254), unless
//      AWS_EC2_METADATA_DISABLED is true
// Those of 4 and 5 expire; whoever keeps them fetches anew in time (credentials_stale).
#ifndef VARVE_OBJECT_CREDENTIALS_H
#define VARVE_OBJECT_CREDENTIALS_H

#include "base/buf.h"
#include "base/err.h"
#include "base/os.h"

struct credentials {
    char access[160];
    char secret[256];
    char token[8192];    // "" if none
    uint64_t expires_ms; // wall clock; 0: never
    char source[64];     // "environment", "profile x in ...": for messages
};

// One request to a metadata service.
struct metadata_request {
    const char *method;
    const char *url;
    const char *header; // "Name: value" or NULL
};
// Carries it out, waiting a few seconds at most; appends the body. *status is 0 with ERR_NETWORK.
typedef enum err (*metadata_fn)(void *arg, const struct metadata_request *r, struct buf *body,
                                unsigned *status);

struct credentials_options {
    struct os *os;
    bool use_default;
    const char *access_key; // these may be NULL or ""
    const char *secret_key;
    const char *token;
    const char *profile;
    metadata_fn metadata; // credentials_http, or a test's
    void *metadata_arg;
};

// ERR_DENIED if there are none anywhere, or a source has half of them: msg says what was looked at
// and how to set them. ERR_NETWORK if a metadata service failed.
MUST_USE enum err credentials_get(struct credentials *c, const struct credentials_options *o,
                                  struct errmsg *msg);
// True from five minutes before they expire.
bool credentials_stale(const struct credentials *c, uint64_t now_ms);
// metadata_fn over libcurl; takes no proxy. `arg` is not used.
MUST_USE enum err credentials_http(void *arg, const struct metadata_request *r, struct buf *body,
                                   unsigned *status);

// Parts that tests look at.
// Finds a key's value in a file of ~/.aws; `section` as between the brackets. False if not there.
bool aws_file_find(struct slice file, const char *section, const char *key, struct slice *value);
bool aws_file_has(struct slice file, const char *section);
// Milliseconds since 1970 of "2026-01-31T12:00:00Z"; 0 if it is nothing like that.
uint64_t iso_date_ms(struct slice text);

#endif
