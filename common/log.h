/*
 * What the user sees while work goes on. Words go to stderr, data to stdout. Any thread may
 * write a message; each is one line.
 */
#ifndef COMMON_LOG_H
#define COMMON_LOG_H

#include <stdbool.h>
#include <stdint.h>

/* Name in front of each message, e.g. "mundwerk data prepare"; borrowed. */
void log_name(const char *name);
void log_quiet(bool quiet); /* silences log_info and progress, not warnings */
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

double log_seconds(void); /* monotonic clock; only differences mean something */

/* A progress line: on a terminal redrawn at most ten times a second with bar,
 * rate and ETA; otherwise one plain line each ten seconds and one at the end.
 *
 *     struct progress p;
 *     progress_start(&p, "counting words", bytes_total, PROGRESS_BYTES);
 *     progress_update(&p, bytes_done, "1.2M distinct");
 *     progress_finish(&p, NULL);
 */
enum progress_unit { PROGRESS_COUNT, PROGRESS_BYTES };

struct progress {
    const char *label; /* borrowed */
    const char *noun;  /* unit word for PROGRESS_COUNT, e.g. "steps"; may be NULL */
    uint64_t total;    /* 0 if unknown: then no bar and no ETA */
    uint64_t start;    /* amount already done before, excluded from the rate (resume) */
    uint64_t done;
    enum progress_unit unit;
    double time_start;
    double time_drawn;
    bool terminal;
};

void progress_start(struct progress *p, const char *label, uint64_t total, enum progress_unit unit);
void progress_update(struct progress *p, uint64_t done, const char *note); /* note may be NULL */
void progress_finish(struct progress *p, const char *note);

/* "1.2 GB", "35.1k", "2 h 05 min" into a small static ring of buffers (8 per thread). */
const char *log_bytes(uint64_t bytes);
const char *log_count(double count);
const char *log_duration(double seconds);

#endif
