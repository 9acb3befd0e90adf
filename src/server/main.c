// The one executable: `varve serve` is the server, every other word is the command line.
#include "cli/cli.h"
#include "server/offline.h"
#include "server/serve.h"
#include <string.h>

int main(int argc, char **argv)
{
    if (argc >= 2 && !strcmp(argv[1], "serve"))
        return serve_main(argc - 1, argv + 1);
    return cli_main(argc, argv, &offline);
}
