/* The tokenizer, by the first byte of the input: 'm' the rest is a spiece.model, 'p' the rest patches the stored model (three bytes
 * of offset, one of value), 'j' a tokenizer.json, anything else a prompt for the stored model. */
#include <stdlib.h>
#include <string.h>

#include "engine/core/json.h"
#include "engine/core/utf8.h"
#include "engine/model/clean.h"
#include "engine/model/text.h"
#include "engine/model/tokenizer_int.h"
#include "engine/model/unigram.h"
#include "tests/fuzz/fuzz.h"

#define VECTORS PRX_SOURCE_DIR "/tests/vectors/tokenizer/"

const int fuzz_rounds = 4000;
const fuzz_seed fuzz_seeds[] = {
    FUZZ_TEXT("m\n\016\n\005<unk>\025\0\0\0\0\030\002\n\r\n\004</s>\025\0\0\0\0\030\003\n\n\n\003\342\226\201\025\0\0\200\277"
              "\n\010\n\001a\025\0\0\0\300\n\010\n\001b\025\0\0\0\300\022\005\030\001\300\002\0\032\0"),
    FUZZ_TEXT("p\0\0\1\7\1\0\0\377"),
    FUZZ_TEXT("p\0\200\1\7\2\0\0\377\0\5\0\1"),
    FUZZ_TEXT("j{\"added_tokens\":[{\"id\":1,\"content\":\"</s>\",\"lstrip\":true}],\"normalizer\":{\"type\":\"Sequence\","
              "\"normalizers\":[{\"type\":\"Strip\"}]},\"pre_tokenizer\":{\"type\":\"Metaspace\",\"prepend_scheme\":\"first\"},"
              "\"model\":{\"type\":\"Unigram\",\"unk_id\":3,\"byte_fallback\":true,\"vocab\":[[\"a\",-1.5]]}}"),
    FUZZ_TEXT("a red ball </s> bounces <extra_id_7>on &amp;amp; a &eacute;blue floor \343\200\202\360\237\231\202"),
    FUZZ_TEXT("\357\274\201e\314\201\341\204\200\341\205\241 &#x1F600;\033[1m<0x41> \342\200\234q\342\200\235"),
    { NULL, 0 },
};

static prxi_mem mem;
static prxi_tokenizer *stored;
static char *base;
static size_t base_n;

/* Once, not freed: libFuzzer calls for the life of the process. */
static void load(void)
{
    prxi_mem_init(&mem, NULL);
    prxi_ctx c = { .mem = &mem };
    if (prxi_tokenizer_open(&c, &stored, VECTORS) != PRX_OK ||
        prxi_read_file(&c, VECTORS "spiece.model", 1 << 20, &base, &base_n) != PRX_OK)
        abort();
}

static void keep_nothing(void *cookie, const char *bytes, size_t n)
{
    (void)bytes;
    *(size_t *)cookie = n;
}

/* A model that passes the check is loaded and used. */
static void model(prxi_ctx *c, const void *data, size_t n)
{
    static const char text[] = "a b \xc3\xa9\xef\xbc\xa1 \xe9\xbe\x98 1";
    prxi_spm_spec spec;
    prxi_unigram u;
    char why[128];
    int32_t ids[8];
    int count = 0;
    size_t len = 0;
    if (prxi_spm_check(c, "fuzz", data, n, &spec) != PRX_OK)
        return;
    prxi_spm *s = prxi_spm_open(data, n, why, sizeof why);
    if (!s)
        return;
    prxi_spm_normalize(s, text, sizeof text - 1, keep_nothing, &len);
    if (prxi_unigram_open(c, &u, s, spec.unk_id, 1) == PRX_OK) {
        prxi_unigram_cell cell[sizeof text];
        prxi_unigram_word(&u, text, sizeof text - 1, cell, 8, ids, &count);
        if (count < 1 || count > 8)
            abort();
        prxi_unigram_close(c, &u);
    }
    prxi_spm_close(s);
}

static void patched(prxi_ctx *c, const uint8_t *data, size_t n)
{
    char *copy = malloc(base_n);
    if (!copy)
        abort();
    memcpy(copy, base, base_n);
    for (size_t i = 0; i + 4 <= n; i += 4)
        copy[((size_t)data[i] << 16 | (size_t)data[i + 1] << 8 | data[i + 2]) % base_n] = (char)data[i + 3];
    model(c, copy, base_n);
    free(copy);
}

static void rules(prxi_ctx *c, const char *data, size_t n)
{
    prxi_tok_rules r = { 0 };
    if (prxi_tok_rules_parse(c, &r, "fuzz", data, n) == PRX_OK) {
        static const char text[] = "a </s> b</s>";
        size_t begin = 0, end = 0;
        const int k = prxi_added_find(&r, text, sizeof text - 1, &begin, &end);
        if (k >= r.n_added || (k >= 0 && (begin >= end || end > sizeof text - 1)))
            abort();
    }
    prxi_tok_rules_close(c, &r);
}

static void prompt(prxi_ctx *c, const uint8_t *data, size_t n)
{
    int32_t ids[64];
    int count;
    char *text = malloc(n + 1), *clean;
    size_t len;
    if (!text)
        abort();
    if (n)
        memcpy(text, data, n);
    text[n] = '\0';
    if (prxi_clean_prompt(c, text, &clean, &len) == PRX_OK && prxi_utf8_check(clean, len) != len)
        abort();
    prxi_free(&mem, clean);
    prxi_clear(c);
    if (prxi_tokenizer_encode(c, stored, text, 64, ids, &count) == PRX_OK && (count < 1 || count > 64 || ids[count - 1] != 1))
        abort();
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (!stored)
        load();
    const size_t before = atomic_load(&mem.total);
    prxi_ctx c = { .mem = &mem };
    const char kind = n ? (char)data[0] : 't';
    if (kind == 'm')
        model(&c, data + 1, n - 1);
    else if (kind == 'p')
        patched(&c, data + 1, n - 1);
    else if (kind == 'j')
        rules(&c, (const char *)data + 1, n - 1);
    else
        prompt(&c, data, n);
    if (atomic_load(&mem.total) != before)
        abort();
    return 0;
}
