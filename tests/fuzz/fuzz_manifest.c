/* Any text, sealed, as a snapshot's manifest: no path in it leads out of the snapshot. */
#include "checkpoints/manifest.h"
#include "common/seal.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static volatile uint64_t sink;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct manifest m, again;
    struct buf b = {0};
    struct err e;
    buf_add(&b, data, len);
    buf_puts(&b, ",\n");
    seal_put(&b, 0);
    if (!manifest_parse(&m, "fuzz", b.data, b.len, &e)) {
        for (size_t i = 0; i < m.count; i++) {
            MW_ASSERT(m.files[i].path[0] != '/' && !strstr(m.files[i].path, "//"));
            MW_ASSERT(strncmp(m.files[i].path, "../", 3) && !strstr(m.files[i].path, "/../"));
            sink += m.files[i].bytes + m.files[i].hash;
        }
        buf_clear(&b); /* and what was read can be written and read again */
        manifest_print(&m, NULL, &b);
        MW_ASSERT(!manifest_parse(&again, "fuzz", b.data, b.len, &e));
        MW_ASSERT(again.count == m.count && again.step == m.step);
        manifest_release(&again);
        manifest_release(&m);
    }
    sink += (uint64_t)manifest_parse(&m, "fuzz", (const char *)data, len, &e);
    buf_release(&b);
    return 0;
}
