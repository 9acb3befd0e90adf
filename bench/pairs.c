// Writes packed pairs for `varve rel import --format pairs`: u64 from, u64 to, little-endian. The
// lists' sizes follow a power law: list k of L has a share of about 1 / k, so that the largest has
// 1 / ln(L) of all pairs and most have one or two; which number a list has is scattered.
//
//   varve-pairs PAIRS LISTS IDS [SEED] > FILE
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static uint64_t next(uint64_t *state) // splitmix64
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static uint64_t number(const char *text)
{
    char *end;
    uint64_t n = strtoull(text, &end, 10);
    if (end == text || *end || n == 0) {
        fprintf(stderr, "varve-pairs: '%s' is not a number above 0\n", text);
        exit(2);
    }
    return n;
}

int main(int argc, char **argv)
{
    enum { BLOCK = 1 << 15 };
    static uint64_t pairs[BLOCK][2];
    if (argc < 4 || argc > 5) {
        fprintf(stderr, "usage: varve-pairs PAIRS LISTS IDS [SEED]\n");
        return 2;
    }
    uint64_t count = number(argv[1]), lists = number(argv[2]), ids = number(argv[3]);
    uint64_t state = argc > 4 ? number(argv[4]) : 1;
    double scale = log((double)lists + 1);
    // Coprime to `lists` unless that has this prime: then some numbers are given twice.
    const uint64_t scatter = 2654435761u;
    while (count) {
        size_t n = count < BLOCK ? (size_t)count : BLOCK;
        for (size_t i = 0; i < n; i++) {
            double u = (double)(next(&state) >> 11) * 0x1p-53;
            uint64_t k = (uint64_t)exp(u * scale) - 1; // 0 to lists - 1, dense at 0
            k = k < lists ? k : lists - 1;
            pairs[i][0] = (uint64_t)((unsigned __int128)k * scatter % lists);
            pairs[i][1] = next(&state) % ids;
        }
        if (fwrite(pairs, sizeof *pairs, n, stdout) != n) {
            perror("varve-pairs");
            return 1;
        }
        count -= n;
    }
    return fflush(stdout) ? 1 : 0;
}
