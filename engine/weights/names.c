/* Original Wan tensor names -> diffusers names, by whole components: a prefix outside the blocks, a middle part
 * inside them. */
#include "names.h"

#include <stdio.h>
#include <string.h>

typedef struct rule {
    const char *from, *to;
} rule;

/* Prefixes that tools put in front of every name. */
static const char *const wrappers[] = { "model.diffusion_model.", "diffusion_model." };

static const rule outside[] = {
    { "time_embedding.0.", "condition_embedder.time_embedder.linear_1." },
    { "time_embedding.2.", "condition_embedder.time_embedder.linear_2." },
    { "text_embedding.0.", "condition_embedder.text_embedder.linear_1." },
    { "text_embedding.2.", "condition_embedder.text_embedder.linear_2." },
    { "time_projection.1.", "condition_embedder.time_proj." },
    { "img_emb.proj.0.", "condition_embedder.image_embedder.norm1." },
    { "img_emb.proj.1.", "condition_embedder.image_embedder.ff.net.0.proj." },
    { "img_emb.proj.3.", "condition_embedder.image_embedder.ff.net.2." },
    { "img_emb.proj.4.", "condition_embedder.image_embedder.norm2." },
    { "img_emb.emb_pos", "condition_embedder.image_embedder.pos_embed" },
    { "head.modulation", "scale_shift_table" },
    { "head.head.", "proj_out." },
};

/* Behind "blocks.N.". The original calls the affine norm in front of cross attention norm3, diffusers norm2. */
static const rule inside[] = {
    { "modulation", "scale_shift_table" },
    { "self_attn.q.", "attn1.to_q." },
    { "self_attn.k.", "attn1.to_k." },
    { "self_attn.v.", "attn1.to_v." },
    { "self_attn.o.", "attn1.to_out.0." },
    { "self_attn.norm_q.", "attn1.norm_q." },
    { "self_attn.norm_k.", "attn1.norm_k." },
    { "cross_attn.q.", "attn2.to_q." },
    { "cross_attn.k.", "attn2.to_k." },
    { "cross_attn.v.", "attn2.to_v." },
    { "cross_attn.o.", "attn2.to_out.0." },
    { "cross_attn.norm_q.", "attn2.norm_q." },
    { "cross_attn.norm_k.", "attn2.norm_k." },
    { "cross_attn.k_img.", "attn2.add_k_proj." },
    { "cross_attn.v_img.", "attn2.add_v_proj." },
    { "cross_attn.norm_k_img.", "attn2.norm_added_k." },
    { "ffn.0.", "ffn.net.0.proj." },
    { "ffn.2.", "ffn.net.2." },
    { "norm2.", "norm3." },
    { "norm3.", "norm2." },
};

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

static const rule *match(const rule *table, int n, const char *s)
{
    for (int i = 0; i < n; i++)
        if (strncmp(s, table[i].from, strlen(table[i].from)) == 0)
            return &table[i];
    return NULL;
}

/* Length of "blocks.N." at s, or 0. */
static size_t block_prefix(const char *s)
{
    if (strncmp(s, "blocks.", 7) != 0)
        return 0;
    const size_t digits = strspn(s + 7, "0123456789");
    return digits > 0 && s[7 + digits] == '.' ? 7 + digits + 1 : 0;
}

static const char *unwrap(const char *s)
{
    for (int i = 0; i < COUNT(wrappers); i++)
        if (strncmp(s, wrappers[i], strlen(wrappers[i])) == 0)
            return s + strlen(wrappers[i]);
    return s;
}

int prxi_wan_rename(const char *name, char *out, size_t n)
{
    const char *s = unwrap(name);
    const size_t head = block_prefix(s);
    const rule *r = head ? match(inside, COUNT(inside), s + head) : match(outside, COUNT(outside), s);
    if (!r && s == name)
        return 0;
    const char *rest = r ? s + head + strlen(r->from) : s + head;
    const int len = snprintf(out, n, "%.*s%s%s", (int)head, s, r ? r->to : "", rest);
    return len < 0 || (size_t)len >= n ? -1 : 1;
}

int prxi_wan_is_original(const prxi_tensors *t)
{
    for (int i = 0; i < prxi_tensors_count(t); i++) {
        const char *s = unwrap(prxi_tensors_at(t, i)->name);
        const size_t head = block_prefix(s);
        if (strcmp(s, "head.modulation") == 0 || (head && strncmp(s + head, "self_attn.", 10) == 0))
            return 1;
    }
    return 0;
}
