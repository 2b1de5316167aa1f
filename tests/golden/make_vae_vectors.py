"""Writes tests/vectors/vae: small VAEs with random weights and what diffusers decodes with them, for tests/unit/vae.c.

    python tests/golden/make_vae_vectors.py        (versions: tests/golden/requirements.txt)

NAME/vae holds config.json and the weights in diffusers' layout (bf16 values, so that f32 and bf16 runs have the same ones).
NAME/cases.safetensors: latents (normalised, as the sampler leaves them) [z,T,h,w], frames [F,H,W,3] in [0,1] of a float32 run,
and how far diffusers' own bf16 run is from it (root mean square). tiled.*: the same with tiling, every 11th pixel only.
"""
import json
import pathlib

import torch
from diffusers import AutoencoderKLWan
from safetensors.torch import save_file

OUT = pathlib.Path(__file__).resolve().parent.parent / "vectors" / "vae"
STEP = 11
STATS = {"latents_mean": [0.1, -0.3, 0.7, 0.05, -0.9, 0.4], "latents_std": [1.5, 2.0, 0.7, 2.8, 1.1, 0.9]}

CASES = {
    # name: config, latents (T, h, w), latents for tiling or None
    "wan21": (dict(base_dim=4, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=1, temperal_downsample=[False, True, True]),
              (3, 3, 5), (2, 33, 26)),
    "wan22": (dict(base_dim=3, decoder_base_dim=4, z_dim=6, dim_mult=[1, 2, 4, 4], num_res_blocks=1, is_residual=True,
                   in_channels=12, out_channels=12, patch_size=2, scale_factor_spatial=16,
                   temperal_downsample=[False, True, True], **STATS), (3, 3, 2), (1, 25, 17)),
    "small": (dict(base_dim=3, z_dim=6, dim_mult=[1, 4, 4], num_res_blocks=2, is_residual=True, in_channels=12,
                   out_channels=12, patch_size=2, temperal_downsample=[True, True], **STATS), (3, 3, 4), (2, 26, 34)),
    "flat": (dict(base_dim=7, z_dim=6, dim_mult=[1, 3], num_res_blocks=1, temperal_downsample=[False],
                  scale_factor_spatial=2, scale_factor_temporal=1, **STATS), (4, 5, 1), None),
}


def weights(vae, gen):
    for name, p in vae.named_parameters():
        if name.endswith("gamma"):
            p.data = torch.rand(p.shape, generator=gen) + 0.5
        elif p.dim() > 1:
            fan = p[0].numel()
            p.data = torch.randn(p.shape, generator=gen) * (1.5 / fan) ** 0.5
        else:
            p.data = torch.randn(p.shape, generator=gen) * 0.1
    vae.decoder.conv_out.weight.data *= 0.3      # most of the picture inside [-1, 1]
    for p in vae.parameters():
        p.data = p.data.bfloat16().float()


def decode(vae, latents):
    """As WanPipeline.__call__ and VideoProcessor do it."""
    x = latents[None].to(vae.dtype)
    mean = torch.tensor(vae.config.latents_mean).view(1, -1, 1, 1, 1).to(x.dtype)
    std = 1.0 / torch.tensor(vae.config.latents_std).view(1, -1, 1, 1, 1).to(x.dtype)
    with torch.no_grad():
        y = vae.decode(x / std + mean, return_dict=False)[0][0]
    return (y.float() * 0.5 + 0.5).clamp(0, 1).permute(1, 2, 3, 0).contiguous()


def rms(a, b):
    return torch.tensor([(a - b).double().pow(2).mean().sqrt().item()], dtype=torch.float32)


def main():
    for seed, (name, (config, size, tiled)) in enumerate(CASES.items()):
        gen = torch.Generator().manual_seed(seed)
        vae = AutoencoderKLWan(**config).eval()
        weights(vae, gen)
        folder = OUT / name / "vae"
        folder.mkdir(parents=True, exist_ok=True)
        keep = {k: v.bfloat16().contiguous() for k, v in vae.state_dict().items()
                if not k.startswith("encoder.") or k == "encoder.conv_in.bias"}
        save_file(keep, folder / "diffusion_pytorch_model.safetensors")
        (folder / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKLWan", **config}, indent=1) + "\n")
        out = {"latents": torch.randn(config["z_dim"], *size, generator=gen)}
        out["frames"] = decode(vae, out["latents"])
        if tiled:
            out["tiled.latents"] = torch.randn(config["z_dim"], *tiled, generator=gen)
            vae.enable_tiling()
            out["tiled.frames"] = decode(vae, out["tiled.latents"])[:, ::STEP, ::STEP].contiguous()
            vae.disable_tiling()
            whole = decode(vae, out["tiled.latents"])[:, ::STEP, ::STEP]
            print(name, "tiled differs from whole by", rms(whole, out["tiled.frames"]).item())
        half = vae.to(torch.bfloat16)
        out["bf16_rms"] = rms(decode(half, out["latents"]), out["frames"])
        f = out["frames"]
        print(name, tuple(f.shape), "std", f.std().item(), "clipped", ((f == 0) | (f == 1)).float().mean().item(),
              "bf16", out["bf16_rms"].item())
        save_file(out, OUT / name / "cases.safetensors")


main()
