// What S3 says in XML. One pass with expat; names in any namespace; unknown elements are skipped.
#ifndef VARVE_OBJECT_XML_H
#define VARVE_OBJECT_XML_H

#include "base/buf.h"
#include "base/err.h"

enum xml_root {
    XML_OTHER, // well-formed, but nothing of S3's
    XML_ERROR,
    XML_LIST,
    XML_INITIATED, // InitiateMultipartUploadResult
    XML_COMPLETED, // CompleteMultipartUploadResult
};

struct xml_answer {
    enum xml_root root;
    // XML_ERROR; cut if longer.
    char code[64];
    char message[256];
    char region[64];
    char upload_id[512]; // XML_INITIATED; whole or ERR_INVALID
    char etag[128];      // XML_COMPLETED
    // XML_LIST
    bool truncated;       // there is more
    char next_token[512]; // where that begins; "" if it is not said, or longer
    bool encoded;         // names are percent-encoded; they are decoded here
    size_t count;
    struct buf names; // count times: u64 size, the name's bytes, NUL
};

#define XML_NAMES_MAX (8u << 20)
#define XML_DEPTH     16

// Parses a whole document. ERR_INVALID with the place and what is wrong there: not XML, a document
// type declaration (S3 sends none), too deep, a size that is no number, a name with a NUL or none
// at all. ERR_TOO_BIG past XML_NAMES_MAX. xml_release in any case.
MUST_USE enum err xml_parse(struct xml_answer *a, struct slice text, struct errmsg *msg);
void xml_release(struct xml_answer *a);

#endif
