/* Checks a spiece.model before libsentencepiece sees it: the protobuf structure, the pieces, and the normaliser's
 * double-array trie, whose offsets the library follows without looking. Field numbers: sentencepiece_model.proto. */
#include "tokenizer_int.h"

#include <math.h>
#include <string.h>

#include "engine/core/utf8.h"

enum { MAX_PIECES = 1 << 22, MAX_PIECE_BYTES = 1024, MAX_EXPANSION = 255 };
enum { UNIGRAM = 1, TYPE_UNKNOWN = 2 };

/* A field of a message: varint and fixed values in v, bytes in p and n. */
typedef struct field {
    uint32_t number, wire;
    uint64_t v;
    const unsigned char *p;
    size_t n;
} field;

typedef struct reader {
    const unsigned char *p, *end;
} reader;

static int varint(reader *r, uint64_t *out)
{
    *out = 0;
    for (int shift = 0; shift < 70; shift += 7) {
        if (r->p == r->end)
            return -1;
        const unsigned char b = *r->p++;
        *out |= (uint64_t)(b & 0x7f) << (shift < 64 ? shift : 63);
        if (b < 0x80)
            return 0;
    }
    return -1;
}

static int fixed(reader *r, size_t n, uint64_t *out)
{
    if ((size_t)(r->end - r->p) < n)
        return -1;
    *out = 0;
    for (size_t i = 0; i < n; i++)
        *out |= (uint64_t)r->p[i] << (8 * i);
    r->p += n;
    return 0;
}

/* 1: a field; 0: the end; -1: malformed. */
static int next_field(reader *r, field *f)
{
    uint64_t key;
    memset(f, 0, sizeof *f);
    if (r->p == r->end)
        return 0;
    if (varint(r, &key) != 0 || key >> 3 == 0 || key >> 32 != 0)
        return -1;
    f->number = (uint32_t)(key >> 3);
    f->wire = (uint32_t)(key & 7);
    switch (f->wire) {
    case 0:
        return varint(r, &f->v) == 0 ? 1 : -1;
    case 1:
        return fixed(r, 8, &f->v) == 0 ? 1 : -1;
    case 2:
        if (varint(r, &f->v) != 0 || f->v > (uint64_t)(r->end - r->p))
            return -1;
        f->p = r->p;
        f->n = (size_t)f->v;
        r->p += f->n;
        return 1;
    case 5:
        return fixed(r, 4, &f->v) == 0 ? 1 : -1;
    default:        /* groups are not part of this format */
        return -1;
    }
}

typedef struct check {
    prxi_ctx *c;
    const char *path;
    prxi_spm_spec *spec;
    int unknowns;
} check;

static int bad(const check *k, const char *why)
{
    return prxi_fail(k->c, PRX_EFORMAT, "%s: not a usable SentencePiece model: %s", k->path, why);
}

static int check_piece(check *k, const field *msg)
{
    reader r = { msg->p, msg->p + msg->n };
    field f;
    int got, text = 0;
    uint64_t type = 1;
    while ((got = next_field(&r, &f)) > 0) {
        if (f.number == 1) {
            if (f.wire != 2 || f.n == 0 || f.n > MAX_PIECE_BYTES || memchr(f.p, 0, f.n) ||
                prxi_utf8_check((const char *)f.p, f.n) != f.n)
                return bad(k, "a piece is empty, too long or not valid UTF-8");
            text = 1;
        } else if (f.number == 2) {
            float score;
            const uint32_t bits = (uint32_t)f.v;
            memcpy(&score, &bits, 4);
            /* 1e30: sums of scores stay finite. */
            if (f.wire != 5 || !(fabsf(score) <= 1e30f))
                return bad(k, "a score is not a finite number");
        } else if (f.number == 3) {
            type = f.v;
        }
    }
    if (got < 0 || !text)
        return bad(k, "malformed piece");
    k->unknowns += type == TYPE_UNKNOWN;
    return ++k->spec->pieces <= MAX_PIECES ? PRX_OK : bad(k, "too many pieces");
}

static int check_trainer(check *k, const field *msg)
{
    reader r = { msg->p, msg->p + msg->n };
    field f;
    int got;
    while ((got = next_field(&r, &f)) > 0) {
        if (f.number == 3 && f.v != UNIGRAM)
            return bad(k, "only the unigram type is supported");
        if (f.number == 24 && f.v != 0)
            return bad(k, "whitespace as suffix is not supported");
        if (f.number == 40)
            k->spec->unk_id = (int)(f.v & 0x7fffffff);
    }
    return got < 0 ? bad(k, "malformed trainer_spec") : PRX_OK;
}

static uint32_t unit_at(const unsigned char *p, size_t i)
{
    p += 4 * i;
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* A string of the blob: starts inside, ends with NUL inside, is short, so that no text grows without bound. */
static int value_ok(const unsigned char *blob, size_t n, uint32_t at)
{
    if (at >= n)
        return 0;
    const size_t left = n - at < MAX_EXPANSION + 1 ? n - at : MAX_EXPANSION + 1;
    const unsigned char *end = memchr(blob + at, 0, left);
    return end && prxi_utf8_check((const char *)blob + at, (size_t)(end - blob) - at) == (size_t)(end - blob) - at;
}

/* Darts-clone units: bit 31 marks a value, bits 10.. are an offset (times 256 when bit 9 is set), bit 8 says that the
 * unit at the offset is a value. From a state one byte leads to (state ^ offset ^ byte): all 256 must exist. */
static int check_charsmap(check *k, const field *f)
{
    if (f->wire != 2)
        return bad(k, "malformed normalizer_spec");
    if (f->n == 0)
        return PRX_OK;
    reader r = { f->p, f->p + f->n };
    uint64_t bytes = 0;
    if (fixed(&r, 4, &bytes) != 0 || bytes > (uint64_t)(r.end - r.p) || bytes % 4 != 0 || bytes < 1024)
        return bad(k, "the normaliser's table has a wrong size");
    const unsigned char *trie = r.p, *blob = r.p + bytes;
    const size_t units = (size_t)bytes / 4, blob_n = (size_t)(r.end - blob);
    for (size_t i = 0; i < units; i++) {
        const uint32_t u = unit_at(trie, i);
        if (u >> 31) {
            if (!value_ok(blob, blob_n, u & 0x7fffffffu))
                return bad(k, "the normaliser's table points outside its strings");
            continue;
        }
        const size_t base = i ^ ((size_t)(u >> 10) << ((u & 0x200u) >> 6));
        if ((base | 255u) >= units)
            return bad(k, "the normaliser's table points outside itself");
        if ((u & 0x100u) && !value_ok(blob, blob_n, unit_at(trie, base) & 0x7fffffffu))
            return bad(k, "the normaliser's table points outside its strings");
    }
    return PRX_OK;
}

static int check_normalizer(check *k, const field *msg, int main_one)
{
    reader r = { msg->p, msg->p + msg->n };
    field f;
    int got, err = PRX_OK;
    while (err == PRX_OK && (got = next_field(&r, &f)) > 0) {
        if (f.number == 2)
            err = check_charsmap(k, &f);
        if (f.number == 3 && main_one)
            k->spec->add_dummy_prefix = f.v != 0;
        if (f.number == 4 && main_one)
            k->spec->remove_extra_whitespaces = f.v != 0;
    }
    if (err != PRX_OK)
        return err;
    return got < 0 ? bad(k, "malformed normalizer_spec") : PRX_OK;
}

int prxi_spm_check(prxi_ctx *c, const char *path, const void *data, size_t n, prxi_spm_spec *out)
{
    /* Defaults of the format. */
    *out = (prxi_spm_spec) { 0, 0, 1, 1 };
    check k = { c, path, out, 0 };
    reader r = { data, (const unsigned char *)data + n };
    field f;
    int got, err = PRX_OK;
    while (err == PRX_OK && (got = next_field(&r, &f)) > 0) {
        if (f.number > 5)
            continue;
        if (f.wire != 2)
            err = bad(&k, "malformed message");
        else if (f.number == 1)
            err = check_piece(&k, &f);
        else if (f.number == 2)
            err = check_trainer(&k, &f);
        else if (f.number == 4)
            err = bad(&k, "self test data is not supported");
        else
            err = check_normalizer(&k, &f, f.number == 3);
    }
    if (err != PRX_OK)
        return err;
    if (got < 0)
        return bad(&k, "malformed message (truncated?)");
    if (k.unknowns != 1)
        return bad(&k, "exactly one piece for unknown text is needed");
    return PRX_OK;
}
