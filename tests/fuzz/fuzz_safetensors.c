/*
 * Any bytes as a safetensors file, twice: as they are, and as a header whose length is
 * right, followed by as much data as the first two bytes say. What opens must be readable
 * to the last byte.
 */
#include "checkpoints/tensor.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static volatile uint64_t sink;

static void use(const void *file, size_t len)
{
    struct safetensors s;
    struct err e;
    float out[256];
    char *exact = mem_alloc(len); /* no byte to spare: ASan sees the first one too many */
    memcpy(exact, file, len);
    if (!safetensors_parse(&s, "fuzz", exact, len, &e)) {
        for (size_t i = 0; i < s.count; i++) {
            const struct tensor *t = &s.tensors[i];
            for (uint64_t k = 0; k < tensor_bytes(t); k++)
                sink += ((const unsigned char *)t->data)[k];
            if (t->rank == 1 && t->shape[0] <= 256)
                sink += (uint64_t)safetensors_load_f32(&s, t->name, 1, t->shape[0], out, &e);
            MW_ASSERT(safetensors_find(&s, t->name) == t);
        }
        safetensors_close(&s);
    }
    free(exact);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    use(data, len);
    if (len > 2) {
        struct buf b = {0};
        uint64_t n = len - 2;
        static const char zeros[1024];
        buf_add(&b, &n, sizeof(n));
        buf_add(&b, data + 2, len - 2);
        buf_add(&b, zeros, (data[0] + 256u * data[1]) % sizeof(zeros));
        use(b.data, b.len);
        buf_release(&b);
    }
    return 0;
}
