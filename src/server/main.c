#include <stdio.h>

int main(void)
{
    return puts("varve " VARVE_VERSION) < 0;
}
