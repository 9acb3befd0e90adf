// What the command line does with a data directory that no server has open: check, dump, restore.
#ifndef VARVE_SERVER_OFFLINE_H
#define VARVE_SERVER_OFFLINE_H

#include "cli/cli.h"

extern const struct cli_offline offline;

#endif
