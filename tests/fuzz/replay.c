// The plain main of a fuzz target: feeds it every file named in the arguments, and every file in
// the directories named there. A failure names the file before it ends the process.
#include "fuzz.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>

#define MAX_PATH 4096

static size_t fed;

static void feed_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f) {
        perror(path);
        exit(1);
    }
    size_t n = 0, cap = 1u << 16;
    uint8_t *data = malloc(cap);
    VERIFY(data);
    for (size_t got; (got = fread(data + n, 1, cap - n, f)) > 0;) {
        n += got;
        if (n == cap) {
            cap *= 2;
            data = realloc(data, cap);
            VERIFY(data);
        }
    }
    VERIFY(!ferror(f));
    (void)fclose(f);
    uint8_t *exact = fuzz_copy(data, n, 0, 0);
    free(data);
    fprintf(stderr, "%s\n", path);
    VERIFY(LLVMFuzzerTestOneInput(exact, n) == 0);
    free(exact);
    fed++;
}

static void feed(const char *path)
{
    struct stat st;
    if (stat(path, &st) == 0 && !S_ISDIR(st.st_mode)) {
        feed_file(path);
        return;
    }
    DIR *dir = opendir(path);
    if (!dir) {
        perror(path);
        exit(1);
    }
    for (struct dirent *e; (e = readdir(dir));) {
        char inner[MAX_PATH];
        if (e->d_name[0] == '.')
            continue;
        VERIFY(snprintf(inner, sizeof inner, "%s/%s", path, e->d_name) < MAX_PATH);
        feed(inner);
    }
    (void)closedir(dir);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        feed(argv[i]);
    printf("%zu inputs\n", fed);
    return fed ? 0 : 1;
}
