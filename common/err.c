/* Owns the error sentence and the end of a program that found a bug in itself. */
#include "common/err.h"

#include <stdarg.h>
#include <string.h>

int err_set(struct err *e, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
    va_end(ap);
    return -1;
}

int err_add(struct err *e, const char *fmt, ...)
{
    char context[sizeof(e->msg)];
    char whole[2 * sizeof(e->msg) + 2];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(context, sizeof(context), fmt, ap);
    va_end(ap);
    snprintf(whole, sizeof(whole), "%s: %s", context, e->msg);
    memcpy(e->msg, whole, sizeof(e->msg) - 1);
    e->msg[sizeof(e->msg) - 1] = '\0';
    return -1;
}

void err_bug(const char *file, int line, const char *cond)
{
    fprintf(stderr, "%s:%d: bug: %s does not hold\n", file, line, cond);
    abort();
}
