// The one executable: `varve serve` is the server, every other word is the command line.
#include "server/serve.h"
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    if (argc >= 2 && !strcmp(argv[1], "serve"))
        return serve_main(argc - 1, argv + 1);
    return puts("varve " VARVE_VERSION) < 0;
}
