/*
 * Owns the geometry of a chart. All places are in the units of a fixed view box;
 * the browser scales it.
 */
#include "eval/chart.h"

#include "common/utf8.h"

#include <math.h>
#include <string.h>

enum {
    WIDTH = 760,
    HEIGHT = 330,
    LEFT = 72,
    RIGHT = 116, /* room for the names at the line's end */
    TOP = 14,
    BOTTOM = 42,
    ZERO_WIDTH = 46 /* of the place for x = 0, left of the logarithmic part */
};

struct frame {
    double x_low, x_high; /* of x > 0 */
    double y_low, y_high, y_step;
    double plot_left; /* where the logarithmic part begins */
    bool has_zero;
};

void html_put(struct buf *out, const char *s, size_t len)
{
    for (size_t i = 0; i < len;) {
        uint32_t cp;
        size_t n = utf8_decode(s + i, len - i, &cp);
        if (!n) {
            buf_puts(out, "\xEF\xBF\xBD");
            i++;
            continue;
        }
        if (cp == '&')
            buf_puts(out, "&amp;");
        else if (cp == '<')
            buf_puts(out, "&lt;");
        else if (cp == '>')
            buf_puts(out, "&gt;");
        else if (cp == '"')
            buf_puts(out, "&quot;");
        else if (cp >= 0x20 || cp == '\n' || cp == '\t')
            buf_add(out, s + i, n);
        i += n;
    }
}

void html_puts(struct buf *out, const char *s)
{
    html_put(out, s, strlen(s));
}

/* The widest of 1, 2, 5 x 10^k that gives at least four steps over the range. */
static double nice_step(double range)
{
    double power = pow(10, floor(log10(range / 4)));
    double lead = range / 4 / power;
    return power * (lead >= 5 ? 5 : lead >= 2 ? 2 : 1);
}

static bool find_frame(const struct chart *c, struct frame *f)
{
    *f = (struct frame){.x_low = INFINITY, .x_high = 0, .y_low = INFINITY, .y_high = -INFINITY};
    bool any = false;
    for (size_t s = 0; s < c->series_count; s++)
        for (size_t i = 0; i < c->series[s].count; i++) {
            const struct chart_point *p = &c->series[s].points[i];
            if (!isfinite(p->y) || !isfinite(p->x) || p->x < 0)
                continue;
            any = true;
            f->y_low = fmin(f->y_low, p->y - p->stderr);
            f->y_high = fmax(f->y_high, p->y + p->stderr);
            if (p->x > 0) {
                f->x_low = fmin(f->x_low, p->x);
                f->x_high = fmax(f->x_high, p->x);
            } else {
                f->has_zero = true;
            }
        }
    if (!any)
        return false;
    if (f->x_high == 0) /* only x = 0: any axis will do */
        f->x_low = f->x_high = 1;
    if (f->x_high < f->x_low * 2)
        f->x_high = f->x_low * 2;
    if (c->y_from_zero)
        f->y_low = fmin(f->y_low, 0);
    if (f->y_high - f->y_low < 1e-9 * fmax(1, fabs(f->y_high)))
        f->y_high = f->y_low + fmax(1e-3, fabs(f->y_low) * 0.1);
    f->y_step = nice_step(f->y_high - f->y_low);
    f->y_low = floor(f->y_low / f->y_step + 1e-9) * f->y_step;
    f->y_high = ceil(f->y_high / f->y_step - 1e-9) * f->y_step;
    f->plot_left = LEFT + (f->has_zero ? ZERO_WIDTH : 0);
    return true;
}

static double place_x(const struct frame *f, double x)
{
    if (x <= 0)
        return LEFT + ZERO_WIDTH / 3.0;
    double share = log(x / f->x_low) / log(f->x_high / f->x_low);
    return f->plot_left + share * (WIDTH - RIGHT - f->plot_left);
}

static double place_y(const struct frame *f, double y)
{
    return TOP + (f->y_high - y) / (f->y_high - f->y_low) * (HEIGHT - TOP - BOTTOM);
}

/* 1,500,000 as "1.5M": axis labels, not measurements. */
static void put_short(struct buf *out, double x)
{
    static const char units[] = " kMGTP";
    int unit = 0;
    while (x >= 999.5 && units[unit + 1]) {
        x /= 1000;
        unit++;
    }
    buf_printf(out, "%.3g", x);
    if (unit)
        buf_putc(out, units[unit]);
}

static void put_y_axis(struct buf *out, const struct frame *f, const char *label)
{
    int steps = (int)lround((f->y_high - f->y_low) / f->y_step);
    int decimals = f->y_step >= 1 ? 0 : (int)ceil(-log10(f->y_step) - 1e-9);
    for (int i = 0; i <= steps; i++) {
        double y = f->y_low + i * f->y_step;
        double at = place_y(f, y);
        buf_printf(out, "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>", LEFT,
                   WIDTH - RIGHT, at, at);
        buf_printf(out, "<text class=\"tick\" x=\"%d\" y=\"%.1f\" text-anchor=\"end\">", LEFT - 7,
                   at + 4);
        if (fabs(y) >= 10000)
            put_short(out, y);
        else
            buf_printf(out, "%.*f", decimals, fabs(y) < f->y_step / 2 ? 0.0 : y);
        buf_puts(out, "</text>");
    }
    buf_printf(out,
               "<text class=\"label\" transform=\"translate(13 %d) rotate(-90)\" "
               "text-anchor=\"middle\">",
               (TOP + HEIGHT - BOTTOM) / 2);
    html_puts(out, label);
    buf_puts(out, "</text>");
}

static void put_x_tick(struct buf *out, double at, bool line, double value)
{
    if (line)
        buf_printf(out, "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/>", at,
                   at, TOP, HEIGHT - BOTTOM);
    buf_printf(out, "<text class=\"tick\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">", at,
               HEIGHT - BOTTOM + 17);
    put_short(out, value);
    buf_puts(out, "</text>");
}

/* Leading digits of the ticks within a decade: many where few decades are shown. */
static const char *tick_leads(double decades)
{
    if (decades > 3)
        return "1";
    if (decades > 1.7)
        return "125";
    return decades > 0.9 ? "12357" : "123456789";
}

static void put_x_axis(struct buf *out, const struct frame *f)
{
    if (f->has_zero)
        put_x_tick(out, place_x(f, 0), true, 0);
    const char *leads = tick_leads(log10(f->x_high / f->x_low));
    for (int k = (int)floor(log10(f->x_low)); k <= (int)ceil(log10(f->x_high)); k++)
        for (const char *lead = leads; *lead; lead++) {
            double x = (*lead - '0') * pow(10, k);
            if (x >= f->x_low * 0.999 && x <= f->x_high * 1.001)
                put_x_tick(out, place_x(f, x), true, x);
        }
    buf_printf(out,
               "<text class=\"label\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">training tokens "
               "(logarithmic)</text>",
               (f->plot_left + WIDTH - RIGHT) / 2, HEIGHT - 5);
}

static void put_line(struct buf *out, const struct frame *f, const struct chart_series *s,
                     size_t colour)
{
    buf_printf(out, "<path class=\"line%s\" style=\"stroke:var(--c%zu)\" d=\"",
               s->faint ? " faint" : "", colour);
    bool drawing = false;
    for (size_t i = 0; i < s->count; i++) {
        const struct chart_point *p = &s->points[i];
        if (!isfinite(p->y) || p->x < 0) {
            drawing = false;
            continue;
        }
        buf_printf(out, "%c%.1f %.1f", drawing ? 'L' : 'M', place_x(f, p->x), place_y(f, p->y));
        drawing = true;
    }
    buf_puts(out, "\"/>");
}

static void put_markers(struct buf *out, const struct frame *f, const struct chart_series *s,
                        size_t colour)
{
    for (size_t i = 0; i < s->count; i++) {
        const struct chart_point *p = &s->points[i];
        if (!isfinite(p->y) || p->x < 0)
            continue;
        double x = place_x(f, p->x), y = place_y(f, p->y);
        buf_printf(out, "<g class=\"point\" style=\"--c:var(--c%zu)\">", colour);
        if (p->stderr > 0) {
            double high = place_y(f, p->y + p->stderr), low = place_y(f, p->y - p->stderr);
            buf_printf(out, "<path class=\"bar\" d=\"M%.1f %.1fV%.1fM%.1f %.1fh8M%.1f %.1fh8\"/>",
                       x, high, low, x - 4, high, x - 4, low);
        }
        buf_printf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.4\"/><title>", x, y);
        html_puts(out, s->name);
        buf_puts(out, ": ");
        buf_printf(out, p->stderr > 0 ? "%.4f ± %.4f" : "%.4f", p->y, p->stderr);
        buf_puts(out, " at ");
        put_short(out, p->x);
        buf_puts(out, " tokens");
        if (p->note) {
            buf_puts(out, ", ");
            html_puts(out, p->note);
        }
        buf_puts(out, "</title></g>");
    }
}

/* Names stand at the ends of their lines, pushed apart where they would overlap. */
static void put_names(struct buf *out, const struct frame *f, const struct chart *c)
{
    enum { APART = 15 };
    double at[CHART_SERIES_MAX];
    size_t order[CHART_SERIES_MAX], count = 0;
    for (size_t s = 0; s < c->series_count; s++) {
        const struct chart_series *series = &c->series[s];
        if (series->faint)
            continue;
        size_t last = series->count;
        while (last && !isfinite(series->points[last - 1].y))
            last--;
        if (!last)
            continue;
        at[s] = place_y(f, series->points[last - 1].y);
        size_t i = count++;
        for (; i && at[order[i - 1]] > at[s]; i--)
            order[i] = order[i - 1];
        order[i] = s;
    }
    double lowest = HEIGHT - BOTTOM;
    for (size_t i = 1; i < count; i++)
        at[order[i]] = fmax(at[order[i]], at[order[i - 1]] + APART);
    for (size_t i = count; i-- > 0; lowest = at[order[i]] - APART)
        at[order[i]] = fmin(at[order[i]], lowest);
    for (size_t i = 0; i < count; i++) {
        buf_printf(out, "<text class=\"name\" style=\"fill:var(--c%zu)\" x=\"%d\" y=\"%.1f\">",
                   order[i], WIDTH - RIGHT + 8, at[order[i]] + 4);
        html_puts(out, c->series[order[i]].name);
        buf_puts(out, "</text>");
    }
}

void chart_put(struct buf *out, const struct chart *c)
{
    MW_ASSERT(c->series_count <= CHART_SERIES_MAX);
    struct frame f;
    buf_puts(out, "<figure><figcaption>");
    html_puts(out, c->title);
    buf_puts(out, "</figcaption>");
    if (!find_frame(c, &f)) {
        buf_puts(out, "<p class=\"none\">No points yet.</p></figure>\n");
        return;
    }
    buf_printf(out, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", WIDTH, HEIGHT);
    html_puts(out, c->title);
    buf_puts(out, "\">");
    put_y_axis(out, &f, c->y_label);
    put_x_axis(out, &f);
    for (size_t s = 0; s < c->series_count; s++)
        put_line(out, &f, &c->series[s], s);
    for (size_t s = 0; s < c->series_count; s++)
        if (c->series[s].markers)
            put_markers(out, &f, &c->series[s], s);
    put_names(out, &f, c);
    buf_puts(out, "</svg></figure>\n");
}
