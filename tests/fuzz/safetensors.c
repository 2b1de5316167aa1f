/* safetensors files, which is also what --latents and --resume read: the header, then every tensor's bytes. */
#include <stdlib.h>

#include "engine/weights/safetensors.h"
#include "tests/fuzz/fuzz.h"

const int fuzz_rounds = 20000;
const fuzz_seed fuzz_seeds[] = {
    FUZZ_TEXT("\x3c\0\0\0\0\0\0\0{\"a\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]}}   0123456789abcdef"),
    FUZZ_TEXT("\x91\0\0\0\0\0\0\0{\"__metadata__\":{\"format\":\"pt\"},\"latents\":{\"dtype\":\"BF16\",\"shape\":[1,2],"
              "\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[4,5]}}xxxxx"),
    FUZZ_TEXT("\2\0\0\0\0\0\0\0{}"),
    { NULL, 0 },
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    prxi_mem mem;
    prxi_mem_init(&mem, NULL);
    prxi_ctx c = { .mem = &mem };
    prxi_tensors *t = NULL;
    if (prxi_tensors_open_memory(&c, &t, "fuzz", data, n) == PRX_OK) {
        for (int i = 0; i < prxi_tensors_count(t); i++) {
            float *copy = NULL;
            prxi_clear(&c);
            prxi_tensor_f32(&c, prxi_tensors_at(t, i), &copy);
            prxi_free(&mem, copy);
        }
    }
    prxi_tensors_close(&c, &t);
    if (atomic_load(&mem.total) != 0)
        abort();
    return 0;
}
