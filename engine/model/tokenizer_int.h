/* Inside of the tokenizer: the check of spiece.model, and what tokenizer.json adds to it. */
#ifndef PRXI_TOKENIZER_INT_H
#define PRXI_TOKENIZER_INT_H

#include "engine/core/ctx.h"
#include "spm.h"

/* What a spiece.model says about itself (protobuf message ModelProto). */
typedef struct prxi_spm_spec {
    int pieces;
    int unk_id;                     /* of trainer_spec */
    int add_dummy_prefix, remove_extra_whitespaces;
} prxi_spm_spec;

/* Well-formed, unigram, every piece valid UTF-8, scores finite, the normaliser's trie closed in itself. PRX_EFORMAT
 * names path and what is wrong. */
int prxi_spm_check(prxi_ctx *c, const char *path, const void *data, size_t n, prxi_spm_spec *out);

/* A token that is recognised as a literal in the text. */
typedef struct prxi_added {
    char *text;
    size_t len;
    int32_t id;
    int lstrip, rstrip, single_word;
} prxi_added;

typedef enum prxi_prefix { PRXI_PREFIX_NEVER, PRXI_PREFIX_FIRST, PRXI_PREFIX_ALWAYS } prxi_prefix;

typedef struct prxi_tok_rules {
    prxi_added *added;
    int n_added;
    int32_t unk_id;
    int byte_fallback;
    int strip_right;            /* a space before an added token leaves no token of its own */
    prxi_prefix prefix;         /* which segments begin with U+2581 */
} prxi_tok_rules;

/* From DIR/tokenizer.json, or, without it, what transformers derives from spiece.model and tokenizer_config.json. */
int prxi_tok_rules_open(prxi_ctx *c, prxi_tok_rules *r, const char *dir, const prxi_spm *spm, const prxi_spm_spec *spec);
/* The text of a tokenizer.json into rules that are zero or hold defaults; close them after a failure too. */
int prxi_tok_rules_parse(prxi_ctx *c, prxi_tok_rules *r, const char *path, const char *data, size_t n);
void prxi_tok_rules_close(prxi_ctx *c, prxi_tok_rules *r);

/* The first added token in s[0..n), longest first at equal places: its index with *begin and *end (which take neighbouring
 * spaces where the token asks for it), or -1. */
int prxi_added_find(const prxi_tok_rules *r, const char *s, size_t n, size_t *begin, size_t *end);

#endif
