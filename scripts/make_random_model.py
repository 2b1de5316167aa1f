#!/usr/bin/env python3
"""Writes a model directory in diffusers layout with the shapes of Wan2.1-T2V-1.3B and random weights: for measuring time and memory
where the real weights are not at hand. The text encoder is one small layer of the right width.

    python scripts/make_random_model.py DIR [--layers 30] [--dim 1536 --heads 12 --ffn 8960] [--dtype bf16|f32]

Needs what tests/golden/requirements.txt lists.
"""
import argparse
import json
import math
import pathlib
import sys
import warnings

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
from safetensors.torch import save_file
from transformers import UMT5Config, UMT5EncoderModel

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden"))
from make_vectors import make_tokenizer  # noqa: E402

warnings.filterwarnings("ignore")
SHARD = 4 << 30


class Pool:
    """Normal values, drawn once and handed out from changing places: a billion weights in seconds."""

    def __init__(self, seed):
        self.values = torch.randn((1 << 24) + 12345, generator=torch.Generator().manual_seed(seed))
        self.at = 0

    def take(self, shape):
        n, out, done = math.prod(shape), torch.empty(math.prod(shape)), 0
        while done < n:
            part = min(n - done, self.values.numel() - self.at)
            out[done:done + part] = self.values[self.at:self.at + part]
            done += part
            self.at = (self.at + part + 1009) % (self.values.numel() - 1)
        return out.view(shape)


def draw(name, shape, pool):
    last = name.rsplit(".", 1)[-1]
    if last == "gamma" or (len(shape) == 1 and last == "weight"):
        return torch.ones(shape)
    if "scale_shift_table" in name or "relative_attention_bias" in name:
        return 0.3 * pool.take(shape)
    if len(shape) == 1:
        return 0.02 * pool.take(shape)
    return pool.take(shape) / math.sqrt(math.prod(shape[1:]))


def write_weights(module, folder, stem, dtype, pool):
    """Shards of at most 4 GiB with an index, or one file."""
    shards, size, total = [{}], 0, 0
    for name, p in module.state_dict().items():
        if name == "encoder.embed_tokens.weight":      # the same tensor as shared.weight
            continue
        t = draw(name, tuple(p.shape), pool).to(dtype)
        if size + t.nbytes > SHARD and shards[-1]:
            shards.append({})
            size = 0
        shards[-1][name] = t
        size += t.nbytes
        total += t.nbytes
    if len(shards) == 1:
        save_file(shards[0], str(folder / f"{stem}.safetensors"), metadata={"format": "pt"})
        return total
    where = {}
    for i, s in enumerate(shards):
        file = f"{stem}-{i + 1:05d}-of-{len(shards):05d}.safetensors"
        save_file(s, str(folder / file), metadata={"format": "pt"})
        where.update({k: file for k in s})
    (folder / f"{stem}.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": total}, "weight_map": where}, indent=2, sort_keys=True) + "\n")
    return total


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("dir", type=pathlib.Path)
    p.add_argument("--layers", type=int, default=30)
    p.add_argument("--dim", type=int, default=1536)
    p.add_argument("--heads", type=int, default=12)
    p.add_argument("--ffn", type=int, default=8960)
    p.add_argument("--dtype", choices=("bf16", "f32"), default="bf16")
    p.add_argument("--seed", type=int, default=0)
    a = p.parse_args()
    dtype = {"bf16": torch.bfloat16, "f32": torch.float32}[a.dtype]
    pool = Pool(a.seed)
    for part in ("transformer", "vae", "text_encoder", "tokenizer", "scheduler"):
        (a.dir / part).mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(a.dir / "tokenizer")
    with torch.device("meta"):
        dit = WanTransformer3DModel(num_attention_heads=a.heads, attention_head_dim=a.dim // a.heads, num_layers=a.layers, ffn_dim=a.ffn)
        vae = AutoencoderKLWan()
        text = UMT5EncoderModel(UMT5Config(vocab_size=-(-len(tokenizer) // 8) * 8, d_model=4096, d_kv=64, num_heads=4, d_ff=256,
                                           num_layers=1, feed_forward_proj="gated-gelu", tie_word_embeddings=False))
    dit.save_config(str(a.dir / "transformer"))
    vae.save_config(str(a.dir / "vae"))
    text.config.save_pretrained(str(a.dir / "text_encoder"))
    UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0).save_config(str(a.dir / "scheduler"))
    n = write_weights(dit, a.dir / "transformer", "diffusion_pytorch_model", dtype, pool)
    n += write_weights(vae, a.dir / "vae", "diffusion_pytorch_model", dtype, pool)
    n += write_weights(text, a.dir / "text_encoder", "model", dtype, pool)
    index = {"_class_name": "WanPipeline", "_diffusers_version": "0.42.1", "scheduler": ["diffusers", "UniPCMultistepScheduler"],
             "text_encoder": ["transformers", "UMT5EncoderModel"], "tokenizer": ["transformers", "T5TokenizerFast"],
             "transformer": ["diffusers", "WanTransformer3DModel"], "transformer_2": [None, None], "boundary_ratio": None,
             "expand_timesteps": False, "vae": ["diffusers", "AutoencoderKLWan"]}
    (a.dir / "model_index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
    print(f"{a.dir}: {n / 1e9:.2f} GB of {a.dtype} weights, {a.layers} layers of {a.dim}")


if __name__ == "__main__":
    main()
