"""Vectors of the UMT5 encoder: small random models in diffusers layout, ids, and what transformers makes of them.

    python tests/vectors/make_text.py          (torch 2.x, transformers 5.x; writes tests/vectors/text/)

Each NAME/ holds config.json, model.safetensors and cases.safetensors: per case K `ids.K` (as f32), `f32.K` (transformers in
float64, rounded once: the truth) and `bf16.K` (transformers in bfloat16), valid rows only. Case inputs are padded and masked on the
side of transformers, so that the valid-rows-only shortcut is part of what is checked.
"""
import json, os
import torch
from safetensors.torch import save_file
from transformers import UMT5Config, UMT5EncoderModel

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "text")
MODELS = {
    # name: (config, storage dtype, lengths)
    "square": (dict(vocab_size=96, d_model=32, d_kv=8, num_heads=4, d_ff=64, num_layers=2), torch.float32, [1, 7, 20]),
    "wide": (dict(vocab_size=64, d_model=48, d_kv=16, num_heads=5, d_ff=40, num_layers=3), torch.bfloat16, [2, 33]),
    "long": (dict(vocab_size=40, d_model=24, d_kv=4, num_heads=3, d_ff=96, num_layers=2, relative_attention_num_buckets=16,
                  relative_attention_max_distance=50), torch.float16, [150]),
    "buckets": (dict(vocab_size=40, d_model=16, d_kv=4, num_heads=2, d_ff=24, num_layers=1), torch.float32, [200]),
}

for number, (name, (cfg, dtype, lengths)) in enumerate(MODELS.items()):
    torch.manual_seed(100 + number)
    config = UMT5Config(feed_forward_proj="gated-gelu", dropout_rate=0.0, **cfg)
    model = UMT5EncoderModel(config).eval()
    weights = {}
    for key, p in model.state_dict().items():
        if key == "encoder.embed_tokens.weight":
            continue
        if p.dim() == 1:
            v = 1 + 0.3 * torch.randn(p.shape)
        elif "relative_attention_bias" in key:
            v = torch.randn(p.shape)
        elif key == "shared.weight":
            v = torch.randn(p.shape)
        else:
            v = torch.randn(p.shape) * p.shape[1] ** -0.5
        weights[key] = v.to(dtype).contiguous()
    out = os.path.join(HERE, name)
    os.makedirs(out, exist_ok=True)
    save_file(weights, os.path.join(out, "model.safetensors"), metadata={"format": "pt"})
    keys = list(cfg) + ["feed_forward_proj", "layer_norm_epsilon", "relative_attention_num_buckets", "relative_attention_max_distance"]
    with open(os.path.join(out, "config.json"), "w") as f:
        json.dump({"architectures": ["UMT5EncoderModel"], **{k: getattr(config, k) for k in sorted(set(keys))}}, f, indent=2)
        f.write("\n")
    full = dict(weights, **{"encoder.embed_tokens.weight": weights["shared.weight"]})
    cases = {}
    for k, n in enumerate(lengths):
        ids = torch.randint(0, cfg["vocab_size"], (1, n))
        pad = torch.cat([ids, torch.zeros(1, 5, dtype=torch.long)], 1)
        mask = torch.cat([torch.ones(1, n), torch.zeros(1, 5)], 1).long()
        cases[f"ids.{k}"] = ids[0].float()
        for tag, dt in (("f32", torch.float64), ("bf16", torch.bfloat16)):
            m = UMT5EncoderModel(config).eval()
            m.load_state_dict({key: v.to(torch.float32) for key, v in full.items()}, strict=False)
            with torch.no_grad():
                y = m.to(dt)(input_ids=pad, attention_mask=mask).last_hidden_state[0, :n]
            cases[f"{tag}.{k}"] = y.to(torch.float32).contiguous()
        with torch.no_grad():
            f = UMT5EncoderModel(config).eval()
            f.load_state_dict({key: v.to(torch.float32) for key, v in full.items()}, strict=False)
            y = f(input_ids=pad, attention_mask=mask).last_hidden_state[0, :n]
        t = cases[f"f32.{k}"]
        print(name, n, "f32 rel", ((y - t).norm() / t.norm()).item(), "bf16 rel",
              ((cases[f"bf16.{k}"] - t).norm() / t.norm()).item())
    save_file(cases, os.path.join(out, "cases.safetensors"))
