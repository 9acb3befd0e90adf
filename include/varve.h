// The public header of the varve client library.
#ifndef VARVE_H
#define VARVE_H

#endif
