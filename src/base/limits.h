// Every maximum that is not a config key; those that are stand in config.h's catalogue.
#ifndef VARVE_BASE_LIMITS_H
#define VARVE_BASE_LIMITS_H

#define LIMIT_KEY_HARD           (60u << 10)  // key bytes; what an entry's header can hold
#define LIMIT_VALUE_HARD         (16u << 20)  // value bytes, less one
#define LIMIT_REQUEST_HARD       (64u << 20)  // request bytes
#define LIMIT_TXN_OPS            100000u      // operations in one transaction
#define LIMIT_WAL_FRAME          (80u << 20)  // payload bytes of one frame
#define LIMIT_WAL_BUFFER         (96u << 20)  // bytes accepted and not yet written by the flusher
#define LIMIT_HTTP_HEADERS       (16u << 10)  // bytes of a request's header fields
#define LIMIT_HTTP_URL           (32u << 10)  // bytes of its request line
#define LIMIT_JSON_DEPTH         128u         // arrays and objects inside one another
#define LIMIT_LIST               10000u       // keys in one listing page
#define LIMIT_THREADS            256u         // event-loop threads
#define LIMIT_READ_CHUNK         (256u << 10) // bytes one recv may bring
#define LIMIT_OUT_STOP           (1u << 20)   // pending reply bytes at which reading stops
#define LIMIT_OUT_CLOSE          (72u << 20)  // pending reply bytes at which a connection closes
#define LIMIT_SLOW_READER_MS     10000u       // and how long a full one may make no progress
#define LIMIT_IDEMPOTENCY_KEY    128u         // bytes
#define LIMIT_IDEMPOTENCY_TTL_MS 86400000ull  // how long a first result is kept
#define LIMIT_TXN_LOGS           1000u        // logs that one transaction appends to
#define LIMIT_KEYSPACE_NAME      255u         // bytes
#define LIMIT_KEYSPACES          100000u      // in one data directory
#define LIMIT_APPEND_RECORDS     100000u      // records in one append over HTTP
#define LIMIT_PAGE_RECORDS       1000000u     // records in one page of a log
#define LIMIT_PAGE_BYTES         (4u << 20)   // bytes of its records, if more than one
#define LIMIT_FILTER             1024u        // bytes of a prefix or substring to look for
#define LIMIT_RELATION_NAME      128u         // bytes
#define LIMIT_RELATIONS          1000u        // in one data directory
#define LIMIT_REL_MEMBERS        1000000u     // members, and groups, in one transaction
#define LIMIT_REL_PAGE           1000000u     // members in one page
#define LIMIT_REL_LISTS          64u          // lists that one query combines
#define LIMIT_REL_MANY           10000u       // lists of one request that reads many
#define LIMIT_REL_WORK           (8u << 20)   // members that one query looks at
#define LIMIT_ZMQ_REQUESTS       16384u       // queued over ZeroMQ at which its socket is not read
#define LIMIT_ZMQ_BYTES          (256u << 20) // and bytes of those requests
#define LIMIT_ZMQ_PEER_REQUESTS  4096u        // queued of a client that takes no replies
#define LIMIT_ZMQ_PEER_BYTES     (64u << 20)  // and bytes of those
#define LIMIT_ZMQ_UNREAD         (1u << 30)   // bytes of replies not read, of all clients
#define LIMIT_ARCHIVE_RECORD     (64u << 20)  // bytes of a record in an object
#define LIMIT_ARCHIVE_APPEND     (256u << 20) // bytes of one append to a log of objects
#define LIMIT_ARCHIVE_MERGE      (512u << 20) // bytes of the objects that become one
#define LIMIT_PATH               4096u        // bytes of a file path
#define LIMIT_CONFIG_FILE        (1u << 20)   // bytes of a configuration file

#endif
