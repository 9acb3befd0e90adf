#include "cli/progress.h"
#include "base/os.h"
#include <stdio.h>
#include <string.h>

enum { BAR = 30, EVERY_NS = 100000000 };

void progress_begin(struct progress *p, const char *doing, uint64_t total, const char *unit)
{
    *p = (struct progress){.doing = doing, .unit = unit, .total = total, .on = os_is_terminal(2)};
    p->begin_ns = os_mono_ns(os_real());
}

void progress_show(struct progress *p, uint64_t done)
{
    uint64_t now = p->on ? os_mono_ns(os_real()) : 0;
    if (!p->on || now - p->shown_ns < EVERY_NS)
        return;
    p->shown_ns = now;
    double seconds = (double)(now - p->begin_ns) / 1e9;
    double rate = seconds > 0 ? (double)done / seconds : 0;
    fprintf(stderr, "\r\033[K%s ", p->doing);
    if (p->total) {
        double share = done < p->total ? (double)done / (double)p->total : 1;
        char bar[BAR + 1];
        memset(bar, '.', BAR);
        memset(bar, '#', (size_t)(share * BAR));
        bar[BAR] = 0;
        fprintf(stderr, "[%s] %3.0f%% ", bar, share * 100);
    }
    fprintf(stderr, "%llu %s, %.0f/s, %.0f s", (unsigned long long)done, p->unit, rate, seconds);
    fflush(stderr);
}

void progress_hide(const struct progress *p)
{
    if (p->on && p->shown_ns)
        fprintf(stderr, "\r\033[K");
}

void progress_end(struct progress *p)
{
    progress_hide(p);
    p->on = false;
}
