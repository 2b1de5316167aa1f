/* cuBLASLt's algorithms of the shapes that were measured, kept on disk beside the convolutions' choices. */
#include <stdio.h>
#include <string.h>

#include "cuda.h"

static int key_of(const prxi_cuda *u, const int64_t shape[PRXI_CU_GEMM_SHAPE], char key[PRXI_CHOICE_KEY])
{
    char device[96];
    prxi_cuda_device_word(u, device, sizeof device);
    int n = snprintf(key, PRXI_CHOICE_KEY, "gemm/%s/cublaslt-%.20s/", device, u->info.cublaslt);
    for (int i = 0; i < PRXI_CU_GEMM_SHAPE && n < PRXI_CHOICE_KEY; i++)
        n += snprintf(key + n, (size_t)(PRXI_CHOICE_KEY - n), "%s%lld", i ? ":" : "", (long long)shape[i]);
    return n < PRXI_CHOICE_KEY;
}

static int digit(char c)
{
    const char *all = "0123456789abcdef", *at = c ? strchr(all, c) : NULL;
    return at ? (int)(at - all) : -1;
}

static int find(void *cookie, const int64_t shape[PRXI_CU_GEMM_SHAPE], unsigned char data[PRXI_CU_GEMM_ALGORITHM])
{
    const prxi_cuda *u = cookie;
    char key[PRXI_CHOICE_KEY];
    const char *text = key_of(u, shape, key) ? prxi_choices_get(u->choices, key) : NULL;
    if (!text || strlen(text) != 2 * PRXI_CU_GEMM_ALGORITHM)
        return 0;
    for (int i = 0; i < PRXI_CU_GEMM_ALGORITHM; i++) {
        const int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return 0;
        data[i] = (unsigned char)(high * 16 + low);
    }
    return 1;
}

static void keep(void *cookie, const int64_t shape[PRXI_CU_GEMM_SHAPE], const unsigned char data[PRXI_CU_GEMM_ALGORITHM])
{
    prxi_cuda *u = cookie;
    prxi_ctx quiet = { .mem = u->own.mem };
    char key[PRXI_CHOICE_KEY], text[2 * PRXI_CU_GEMM_ALGORITHM + 1];
    if (!key_of(u, shape, key))
        return;
    for (int i = 0; i < PRXI_CU_GEMM_ALGORITHM; i++)
        snprintf(text + 2 * i, 3, "%02x", data[i]);
    prxi_choices_put(&quiet, u->choices, key, text);        /* no memory for it: it is measured again the next time */
}

void prxi_cuda_remember_gemm(prxi_cuda *u)
{
    const prxi_cu_gemm_memory m = { u, u->tune, find, keep };
    u->module->gemm_memory(u->dev, &m);
}
