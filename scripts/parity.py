#!/usr/bin/env python3
"""Does praxino compute what diffusers computes with this model directory? Runs the same clip with both and prints, stage by stage, how
far they are apart; exit code 1 when a stage is farther than allowed.

    python scripts/parity.py DIR --prompt "a red ball" -W 64 -H 64 -f 9 -s 3
    python scripts/parity.py DIR --dtype bf16

f32: relative rms differences of text embeddings (1e-5 allowed) and of the latents after every step (1e-4), and the largest difference of
a frame's byte (1). bf16: both in bf16, each measured against diffusers in f32; praxino may be 1.5 times as far from it as diffusers is.
Both hold the whole model in memory, one after the other. Needs what tests/golden/requirements.txt lists.
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile
import warnings

warnings.filterwarnings("ignore")
ROOT = pathlib.Path(__file__).resolve().parent.parent
ALLOWED = {"text": 1e-5, "latents": 1e-4, "frames": 1.0}


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", type=pathlib.Path)
    p.add_argument("--prompt", default="a red ball bounces on a blue floor")
    p.add_argument("-n", "--negative")
    p.add_argument("-W", "--width", type=int, default=128)
    p.add_argument("-H", "--height", type=int, default=128)
    p.add_argument("-f", "--frames", type=int, default=9)
    p.add_argument("-s", "--steps", type=int, default=3)
    p.add_argument("-g", "--guidance", type=float, default=5.0)
    p.add_argument("--guidance-2", type=float)
    p.add_argument("--max-text", type=int, default=512)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--dtype", choices=("f32", "bf16"), default="f32")
    p.add_argument("--threads", type=int, default=0)
    p.add_argument("--praxino", type=pathlib.Path, default=ROOT / "build" / "praxino", help="the command to check")
    return p.parse_args()


def run_diffusers(a, dtype):
    """text [list of L,D], latents [list of C,T,H,W], frames u8 [F,H,W,3]"""
    import torch
    from diffusers import WanPipeline
    from diffusers.utils import logging
    from transformers.utils import logging as transformers_logging
    for log in (logging, transformers_logging):
        log.set_verbosity_error()
        log.disable_progress_bar()
    if a.threads:
        torch.set_num_threads(a.threads)
    pipe = WanPipeline.from_pretrained(str(a.model), torch_dtype={"f32": torch.float32, "bf16": torch.bfloat16}[dtype])
    pipe.set_progress_bar_config(disable=True)
    text, latents = {}, []

    def before(module, args, kw):
        rows = kw["encoder_hidden_states"][0].float()
        text.setdefault(rows.sum().item(), rows)

    def after(p, i, t, kw):
        latents.append(kw["latents"][0].float().clone())
        return {}

    for model in (pipe.transformer, pipe.transformer_2):
        if model is not None:
            model.register_forward_pre_hook(before, with_kwargs=True)
    with torch.no_grad():
        frames = pipe(prompt=a.prompt, negative_prompt=a.negative, width=a.width, height=a.height, num_frames=a.frames,
                      num_inference_steps=a.steps, guidance_scale=a.guidance, guidance_scale_2=a.guidance_2,
                      max_sequence_length=a.max_text, generator=torch.Generator().manual_seed(a.seed), output_type="np",
                      callback_on_step_end=after).frames[0]
    return {"text": list(text.values()), "latents": latents, "frames": torch.from_numpy((frames * 255).astype("uint8")).float()}


def run_praxino(a, dtype):
    from safetensors.torch import load_file
    with tempfile.TemporaryDirectory() as tmp:
        dump = pathlib.Path(tmp) / "dump.safetensors"
        command = [str(a.praxino), "render", a.prompt, "-m", str(a.model), "-n", a.negative or "", "-W", str(a.width), "-H", str(a.height),
                   "-f", str(a.frames), "-s", str(a.steps), "-g", repr(a.guidance), "--seed", str(a.seed), "--dtype", dtype,
                   "--set", f"max_text={a.max_text}", "--threads", str(a.threads), "--device", "cpu", "--progress", "none",
                   "--dump", str(dump), "-o", str(pathlib.Path(tmp) / "clip.y4m")]
        if a.guidance_2 is not None:
            command += ["--guidance-2", repr(a.guidance_2)]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            sys.exit(f"praxino ended with {done.returncode}: {done.stderr.strip()}")
        t = load_file(str(dump))
    text = [t[k][0].float() for k in ("prompt_embeds", "negative_prompt_embeds") if k in t]
    return {"text": text, "latents": [t[f"latents.{i + 1:03d}"][0].float() for i in range(a.steps)], "frames": t["frames"].float()}


def stages(x, truth):
    """[(name, kind, distance)]"""
    def rms(u):
        return float(u.double().square().mean().sqrt())

    out = []
    for kind in ("text", "latents"):
        for i, (u, v) in enumerate(zip(x[kind], truth[kind])):
            if u.shape != v.shape:
                sys.exit(f"{kind} {i + 1}: shape {tuple(u.shape)} here, {tuple(v.shape)} in diffusers")
            out.append((f"{kind} {i + 1}", kind, rms(u - v) / rms(v)))
    d = (x["frames"] - truth["frames"]).abs()
    out.append(("frames", "frames", float(d.max())))
    out.append(("frames, mean", "mean", float(d.mean())))
    return out


def compare(a):
    """[(name, distance, allowed)]"""
    truth = run_diffusers(a, "f32")
    ours = stages(run_praxino(a, a.dtype), truth)
    if a.dtype == "f32":
        return [(name, d, ALLOWED.get(kind, 1.0)) for name, kind, d in ours]
    theirs = stages(run_diffusers(a, "bf16"), truth)
    return [(name, d, 1.5 * t) for (name, _, d), (_, _, t) in zip(ours, theirs)]


def main():
    rows, wrong = compare(arguments()), 0
    for name, distance, allowed in rows:
        fine = distance <= allowed      # false for NaN
        wrong += not fine
        print(f"{name:14} {distance:10.3g}   {allowed:10.3g} allowed{'' if fine else '   TOO FAR'}")
    return wrong > 0


if __name__ == "__main__":
    sys.exit(main())
