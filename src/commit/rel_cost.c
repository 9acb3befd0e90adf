// What a combination of lists may cost, so that an edge knows on which thread to run it.
#include "commit/rel.h"

enum err commit_rel_cost(struct commit *c, enum rel_combine how, const struct rel_ref *lists,
                         size_t n, size_t limit, uint64_t *members)
{
    uint64_t sum = 0, least = UINT64_MAX;
    for (size_t i = 0; i < n; i++) {
        uint64_t count, dep;
        enum err e = commit_rel_count(c, &lists[i], &count, &dep);
        if (e)
            return e;
        sum += count;
        least = count < least ? count : least;
    }
    uint64_t most = how == REL_INTERSECT ? least * n : sum;
    uint64_t page = (uint64_t)limit * n; // of a union no more is looked at
    *members = how == REL_UNION && page < most ? page : most;
    return ERR_OK;
}
