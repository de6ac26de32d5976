/* Owns the look of the report: one style sheet, light and dark, made to be printed too. */
#include "eval/report_page.h"

#include "eval/chart.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char style[] =
    ":root{--ink:#1c1e21;--soft:#5d646d;--paper:#fff;--card:#f6f7f9;--rule:#dfe3e8;"
    "--c0:#0b62a8;--c1:#c8501e;--c2:#0a8a68;--c3:#a3478f;--c4:#b07d00;--c5:#3c8fc0;--c6:#7a5c40;"
    "--c7:#666}\n"
    "@media(prefers-color-scheme:dark){:root{--ink:#e6e8eb;--soft:#a2a9b3;--paper:#15181c;"
    "--card:#1d2126;--rule:#343a42;--c0:#6db3f2;--c1:#f2935c;--c2:#4cc9a2;--c3:#dd8fcb;"
    "--c4:#e0b040;--c5:#86c7ee;--c6:#c9a584;--c7:#aaa}}\n"
    "*{box-sizing:border-box}"
    "body{margin:0;background:var(--paper);color:var(--ink);"
    "font:16px/1.5 system-ui,'Segoe UI',Roboto,'Noto Sans',sans-serif}"
    "main{max-width:1180px;margin:0 auto;padding:28px 24px 60px}"
    "h1{font-size:1.8rem;margin:0 0 .2rem}h2{font-size:1.25rem;margin:2.4rem 0 .8rem;"
    "padding-bottom:.3rem;border-bottom:1px solid var(--rule)}"
    "section{min-width:0}p{max-width:75ch}.lead{color:var(--soft);margin-top:0}"
    ".tiles{display:flex;flex-wrap:wrap;gap:12px;margin:1.2rem 0}"
    ".tile{background:var(--card);border-radius:8px;padding:12px 18px;min-width:130px}"
    ".tile b{display:block;font-size:1.45rem;font-variant-numeric:tabular-nums}"
    ".tile span{color:var(--soft);font-size:.85rem}"
    ".charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(480px,100%),1fr));"
    "gap:18px}"
    "figure{margin:0;min-width:0;background:var(--card);border-radius:8px;padding:12px 12px 4px}"
    "figcaption{font-weight:600;padding:0 4px 4px}"
    "svg{width:100%;height:auto;display:block;font:12px system-ui,sans-serif}"
    ".grid{stroke:var(--rule);stroke-width:1}.tick{fill:var(--soft)}"
    ".label{fill:var(--soft);font-size:12px}.name{font-weight:600}"
    ".line{fill:none;stroke-width:2.2;stroke-linejoin:round}"
    ".faint{stroke-width:1;opacity:.35}"
    ".point circle{fill:var(--c)}.point .bar{stroke:var(--c);stroke-width:1.5;fill:none}"
    ".none{color:var(--soft);padding:0 4px}"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums}"
    "th,td{padding:5px 12px;border-bottom:1px solid var(--rule);text-align:left;"
    "vertical-align:top}th{color:var(--soft);font-weight:600;font-size:.9rem}"
    "td.n,th.n{text-align:right;white-space:nowrap}"
    ".wide{overflow-x:auto}.samples td{min-width:150px;font-size:.86rem;line-height:1.4}"
    ".samples td:first-child,.samples th:first-child{position:sticky;left:0;min-width:130px;"
    "background:var(--paper);font-weight:600}"
    ".samples .t{white-space:pre-wrap;overflow-wrap:anywhere}"
    ".share{display:inline-block;height:.7em;border-radius:2px;background:var(--c0);"
    "vertical-align:baseline;min-width:1px}.share.out{background:var(--c1)}"
    ".two{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(420px,100%),1fr));"
    "gap:24px;align-items:start}"
    "code,pre{font:13px/1.45 ui-monospace,'DejaVu Sans Mono',monospace}"
    "pre{background:var(--card);border-radius:8px;padding:12px;overflow-x:auto}"
    "summary{cursor:pointer;color:var(--soft)}"
    "@media print{body{font-size:11px}figure,.tile{break-inside:avoid}}\n";

void page_open(struct buf *out, const char *title)
{
    buf_puts(out,
             "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
             "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>");
    html_puts(out, title);
    buf_puts(out, "</title>\n<style>\n");
    buf_puts(out, style);
    buf_puts(out, "</style>\n</head>\n<body>\n<main>\n");
}

void page_close(struct buf *out)
{
    buf_puts(out, "</main>\n</body>\n</html>\n");
}

void page_section(struct buf *out, const char *id, const char *title)
{
    buf_printf(out, "<section id=\"%s\">\n<h2>", id);
    html_puts(out, title);
    buf_puts(out, "</h2>\n");
}

void page_section_end(struct buf *out)
{
    buf_puts(out, "</section>\n");
}

void page_tile(struct buf *out, const char *value, const char *name)
{
    buf_puts(out, "<div class=\"tile\"><b>");
    html_puts(out, value);
    buf_puts(out, "</b><span>");
    html_puts(out, name);
    buf_puts(out, "</span></div>\n");
}

void page_facts_open(struct buf *out)
{
    buf_puts(out, "<table>\n");
}

void page_fact(struct buf *out, const char *name, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    buf_puts(out, "<tr><th>");
    html_puts(out, name);
    buf_puts(out, "</th><td>");
    html_puts(out, text);
    buf_puts(out, "</td></tr>\n");
}

void page_fact_count(struct buf *out, const char *name, unsigned long long value)
{
    page_fact(out, name, "%s", page_grouped(value));
}

void page_facts_close(struct buf *out)
{
    buf_puts(out, "</table>\n");
}

const char *page_grouped(unsigned long long value)
{
    static _Thread_local char ring[8][32];
    static _Thread_local unsigned next;
    char digits[24];
    char *text = ring[next++ % 8], *to = text;
    int n = snprintf(digits, sizeof(digits), "%llu", value);
    for (int i = 0; i < n; i++) {
        if (i && (n - i) % 3 == 0)
            *to++ = ',';
        *to++ = digits[i];
    }
    *to = '\0';
    return text;
}
