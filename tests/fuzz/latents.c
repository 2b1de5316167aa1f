/* A latents file: one tensor by name, its shape taken from the file, all its values as finite f32. */
#include <math.h>
#include <stdlib.h>

#include "engine/weights/safetensors.h"
#include "tests/fuzz/fuzz.h"

const int fuzz_rounds = 20000;
const fuzz_seed fuzz_seeds[] = {
    FUZZ_TEXT("\x4c\0\0\0\0\0\0\0{\"latents\":{\"dtype\":\"F32\",\"shape\":[1,1,1,2,2],\"data_offsets\":[0,16]}}       "
              "\0\0\x80\x3f\0\0\0\xbf\0\0\0\0\1\0\0\0"),
    FUZZ_TEXT("\x47\0\0\0\0\0\0\0{\"latents\":{\"dtype\":\"BF16\",\"shape\":[2,1,1,2],\"data_offsets\":[0,8]}}    "
              "\x80\x3f\x80\xff\0\0\1\0"),
    FUZZ_TEXT("\x47\0\0\0\0\0\0\0{\"latents\":{\"dtype\":\"F16\",\"shape\":[1,2,0,2],\"data_offsets\":[0,0]}}     "),
    { NULL, 0 },
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    prxi_mem mem;
    prxi_mem_init(&mem, NULL);
    prxi_ctx c = { .mem = &mem };
    prxi_tensors *t = NULL;
    const prxi_tensor *x = NULL, *y = NULL;
    float *copy = NULL;
    if (prxi_tensors_open_memory(&c, &t, "fuzz", data, n) == PRX_OK)
        x = prxi_tensors_find(t, "latents");
    if (x && prxi_tensors_get(&c, t, "latents", x->ndim, x->shape, &y) == PRX_OK && prxi_tensor_f32(&c, y, &copy) == PRX_OK) {
        for (size_t i = 0; i < y->bytes / prxi_dtype_size(y->dtype); i++)
            if (!isfinite(copy[i]))
                abort();
    }
    prxi_free(&mem, copy);
    prxi_tensors_close(&c, &t);
    if (atomic_load(&mem.total) != 0)
        abort();
    return 0;
}
