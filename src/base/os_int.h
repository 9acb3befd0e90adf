// What only the files behind the os seam know.
#ifndef VARVE_BASE_OS_INT_H
#define VARVE_BASE_OS_INT_H

// What os_last_errno() says on this thread from now on.
void os_note_errno(int error);

#endif
