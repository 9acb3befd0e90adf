#include "commit/commit_int.h"

enum err load_log_tail(struct commit *c, const struct log_name *name)
{
    return ERR_UNSUPPORTED;
}
