/* Owns stderr: messages and the one progress line. */
#include "common/log.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static const char *name_now = "mundwerk";
static bool quiet_now;
static bool line_open; /* a progress line stands on the terminal without its newline */

void log_name(const char *name)
{
    name_now = name;
}

void log_quiet(bool quiet)
{
    quiet_now = quiet;
}

static void clear_progress_line(void)
{
    if (line_open)
        fputs("\r\033[K", stderr);
    line_open = false;
}

static void message(const char *kind, const char *fmt, va_list ap)
{
    flockfile(stderr);
    clear_progress_line();
    fprintf(stderr, "%s: %s", name_now, kind);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    funlockfile(stderr);
}

void log_info(const char *fmt, ...)
{
    if (quiet_now)
        return;
    va_list ap;
    va_start(ap, fmt);
    message("", fmt, ap);
    va_end(ap);
}

void log_warn(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    message("warning: ", fmt, ap);
    va_end(ap);
}

void log_error(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    message("", fmt, ap);
    va_end(ap);
}

double log_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Several of these may stand in one printf, so each call takes the next buffer. */
static char *next_buffer(size_t *size)
{
    static _Thread_local char ring[8][32];
    static _Thread_local unsigned at;
    *size = sizeof(ring[0]);
    return ring[at++ % 8];
}

static const char *scaled(double value, const char *const *units, const char *plain)
{
    size_t size;
    char *text = next_buffer(&size);
    int unit = -1;
    while (fabs(value) >= 999.5 && units[unit + 1]) {
        value /= 1000;
        unit++;
    }
    if (unit < 0)
        snprintf(text, size, "%.4g%s", value, plain);
    else
        snprintf(text, size, value < 99.95 ? "%.1f%s" : "%.0f%s", value, units[unit]);
    return text;
}

const char *log_bytes(uint64_t bytes)
{
    static const char *const units[] = {" kB", " MB", " GB", " TB", " PB", NULL};
    return scaled((double)bytes, units, " B");
}

const char *log_count(double count)
{
    static const char *const units[] = {"k", "M", "G", "T", NULL};
    return scaled(count, units, "");
}

const char *log_duration(double seconds)
{
    size_t size;
    char *text = next_buffer(&size);
    if (!(seconds >= 0) || seconds > 1e9) {
        snprintf(text, size, "?");
        return text;
    }
    long s = (long)(seconds + 0.5);
    if (seconds < 9.95)
        snprintf(text, size, "%.1f s", seconds);
    else if (s < 120)
        snprintf(text, size, "%ld s", s);
    else if (s < 3600)
        snprintf(text, size, "%ld min %02ld s", s / 60, s % 60);
    else if (s < 48 * 3600)
        snprintf(text, size, "%ld h %02ld min", s / 3600, s / 60 % 60);
    else
        snprintf(text, size, "%.1f days", seconds / 86400);
    return text;
}

#define DRAW_TERMINAL_S 0.1
#define DRAW_PLAIN_S    10.0

void progress_start(struct progress *p, const char *label, uint64_t total, enum progress_unit unit)
{
    *p = (struct progress){.label = label, .total = total, .unit = unit};
    p->terminal = isatty(STDERR_FILENO);
    p->time_start = p->time_drawn = log_seconds();
}

static const char *amount(const struct progress *p, double value)
{
    return p->unit == PROGRESS_BYTES ? log_bytes((uint64_t)value) : log_count(value);
}

static int terminal_width(void)
{
    struct winsize w;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 20)
        return w.ws_col;
    return 80;
}

static void draw(struct progress *p, const char *note, bool last)
{
    double elapsed = log_seconds() - p->time_start;
    double rate = elapsed > 0 ? (double)(p->done - p->start) / elapsed : 0;
    char line[512];
    int at = snprintf(line, sizeof(line), "%s", p->label);
    if (p->total && !last) {
        double share = p->done < p->total ? (double)p->done / (double)p->total : 1;
        char bar[17];
        for (int i = 0; i < 16; i++)
            bar[i] = i < (int)(share * 16) ? '#' : '.';
        bar[16] = '\0';
        at += snprintf(line + at, sizeof(line) - (size_t)at, " [%s] %3d%%", bar,
                       (int)(share * 100));
    }
    at += snprintf(line + at, sizeof(line) - (size_t)at, " %s", amount(p, (double)p->done));
    if (p->total && !last)
        at += snprintf(line + at, sizeof(line) - (size_t)at, "/%s", amount(p, (double)p->total));
    if (p->noun)
        at += snprintf(line + at, sizeof(line) - (size_t)at, " %s", p->noun);
    if (last)
        at += snprintf(line + at, sizeof(line) - (size_t)at, " in %s", log_duration(elapsed));
    if (rate > 0)
        at += snprintf(line + at, sizeof(line) - (size_t)at, ", %s/s", amount(p, rate));
    if (p->total > p->done && rate > 0 && !last)
        at += snprintf(line + at, sizeof(line) - (size_t)at, ", %s left",
                       log_duration((double)(p->total - p->done) / rate));
    if (note && *note)
        snprintf(line + at, sizeof(line) - (size_t)at, ", %s", note);
    flockfile(stderr);
    clear_progress_line();
    if (p->terminal && !last) {
        fprintf(stderr, "\r%.*s\033[K", terminal_width() - 1, line);
        line_open = true;
    } else {
        fprintf(stderr, "%s: %s\n", name_now, line);
    }
    fflush(stderr);
    funlockfile(stderr);
}

void progress_update(struct progress *p, uint64_t done, const char *note)
{
    p->done = done;
    double now = log_seconds();
    if (quiet_now || now - p->time_drawn < (p->terminal ? DRAW_TERMINAL_S : DRAW_PLAIN_S))
        return;
    p->time_drawn = now;
    draw(p, note, false);
}

void progress_finish(struct progress *p, const char *note)
{
    if (!quiet_now)
        draw(p, note, true);
}
