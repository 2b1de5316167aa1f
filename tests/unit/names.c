/* Original Wan names -> diffusers names: every rule of models.md 1.2, the norm swap, what must stay. */
#include "tests/files.h"

#include "engine/weights/names.h"

static const struct {
    const char *from, *to;      /* to NULL: unchanged */
} cases[] = {
    { "time_embedding.0.weight", "condition_embedder.time_embedder.linear_1.weight" },
    { "time_embedding.2.bias", "condition_embedder.time_embedder.linear_2.bias" },
    { "text_embedding.0.weight", "condition_embedder.text_embedder.linear_1.weight" },
    { "text_embedding.2.weight", "condition_embedder.text_embedder.linear_2.weight" },
    { "time_projection.1.weight", "condition_embedder.time_proj.weight" },
    { "head.modulation", "scale_shift_table" },
    { "head.head.weight", "proj_out.weight" },
    { "patch_embedding.weight", NULL },
    { "blocks.0.modulation", "blocks.0.scale_shift_table" },
    { "blocks.29.self_attn.q.weight", "blocks.29.attn1.to_q.weight" },
    { "blocks.29.self_attn.k.bias", "blocks.29.attn1.to_k.bias" },
    { "blocks.3.self_attn.v.weight", "blocks.3.attn1.to_v.weight" },
    { "blocks.3.self_attn.o.weight", "blocks.3.attn1.to_out.0.weight" },
    { "blocks.3.self_attn.norm_q.weight", "blocks.3.attn1.norm_q.weight" },
    { "blocks.3.cross_attn.norm_k.weight", "blocks.3.attn2.norm_k.weight" },
    { "blocks.3.cross_attn.k_img.weight", "blocks.3.attn2.add_k_proj.weight" },
    { "blocks.3.cross_attn.v_img.bias", "blocks.3.attn2.add_v_proj.bias" },
    { "blocks.3.cross_attn.norm_k_img.weight", "blocks.3.attn2.norm_added_k.weight" },
    { "blocks.3.cross_attn.o.weight", "blocks.3.attn2.to_out.0.weight" },
    { "blocks.3.norm3.weight", "blocks.3.norm2.weight" },
    { "blocks.3.norm2.weight", "blocks.3.norm3.weight" },
    { "blocks.3.ffn.0.weight", "blocks.3.ffn.net.0.proj.weight" },
    { "blocks.3.ffn.2.bias", "blocks.3.ffn.net.2.bias" },
    { "img_emb.proj.0.weight", "condition_embedder.image_embedder.norm1.weight" },
    { "img_emb.proj.1.weight", "condition_embedder.image_embedder.ff.net.0.proj.weight" },
    { "img_emb.proj.3.bias", "condition_embedder.image_embedder.ff.net.2.bias" },
    { "img_emb.proj.4.weight", "condition_embedder.image_embedder.norm2.weight" },
    { "img_emb.emb_pos", "condition_embedder.image_embedder.pos_embed" },
    { "model.diffusion_model.blocks.7.ffn.0.bias", "blocks.7.ffn.net.0.proj.bias" },
    { "diffusion_model.patch_embedding.bias", "patch_embedding.bias" },
    { "blocks.3.attn1.to_q.weight", NULL },
    { "blocks.x.self_attn.q.weight", NULL },
    { "my.blocks.3.self_attn.q.weight", NULL },
    { "proj_out.weight", NULL },
    { "", NULL },
};

static int is_original(const char *name)
{
    prxi_mem m;
    prxi_ctx c = test_ctx(&m, NULL);
    static const float v = 1;
    prxi_tensor_out t = { "", PRXI_F32, 1, { 1 }, &v };
    snprintf(t.name, sizeof t.name, "%s", name);
    prxi_tensors *r;
    REQUIRE(prxi_tensors_write(&c, tmp_path("n.safetensors"), &t, 1, NULL) == PRX_OK, "%s", c.error.text);
    REQUIRE(prxi_tensors_open_file(&c, &r, tmp_path("n.safetensors")) == PRX_OK, "%s", c.error.text);
    const int yes = prxi_wan_is_original(r);
    if (yes)
        CHECK(prxi_tensors_rename(&c, r, prxi_wan_rename) == PRX_OK && !prxi_wan_is_original(r), "%s", c.error.text);
    prxi_tensors_close(&c, &r);
    return yes;
}

int main(void)
{
    char out[128];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const int got = prxi_wan_rename(cases[i].from, out, sizeof out);
        if (cases[i].to)
            CHECK(got > 0 && strcmp(out, cases[i].to) == 0, "%s -> %s", cases[i].from, got > 0 ? out : "(kept)");
        else
            CHECK(got == 0, "%s -> %s", cases[i].from, out);
    }
    CHECK(prxi_wan_rename("head.head.weight", out, 15) < 0, "no room");
    CHECK(prxi_wan_rename("head.head.weight", out, 16) > 0, "exact room");
    tmp_open();
    CHECK(is_original("head.modulation") && is_original("blocks.0.self_attn.q.weight") &&
              is_original("model.diffusion_model.blocks.12.self_attn.o.bias"), "original");
    CHECK(!is_original("scale_shift_table") && !is_original("blocks.0.attn1.to_q.weight") && !is_original("a.modulation"),
          "diffusers");
    tmp_close();
    return TEST_END();
}
