#!/usr/bin/env python3
"""Seconds per step (guidance on: two forwards) and seconds of decoding, praxino against diffusers: the same directory, dtype, size,
threads and noise, taking turns in one run; medians.

    python scripts/make_random_model.py /tmp/wan13
    python scripts/bench_vs_diffusers.py /tmp/wan13 --threads 2 --dtype bf16 --json out.json --markdown out.md

The first step of every clip is left out (both warm up there) when there is more than one. As a check that both did the same work, the
distance of their final latents is reported. Needs what tests/golden/requirements.txt lists.
"""
import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

warnings.filterwarnings("ignore")
ROOT = pathlib.Path(__file__).resolve().parent.parent


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", type=pathlib.Path)
    p.add_argument("--praxino", default=str(ROOT / "build" / "praxino"), help="the command to measure")
    p.add_argument("-W", "--width", type=int, default=256)
    p.add_argument("-H", "--height", type=int, default=256)
    p.add_argument("-f", "--frames", type=int, default=17)
    p.add_argument("-s", "--steps", type=int, default=2)
    p.add_argument("-g", "--guidance", type=float, default=5.0)
    p.add_argument("--rounds", type=int, default=3, help="clips of each")
    p.add_argument("--dtype", choices=("bf16", "f32"), default="bf16")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--prompt", default="a red ball bounces on a blue floor")
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="further settings of praxino, as --set cache=dbcache")
    p.add_argument("--diffusers-vae", choices=("f32", "same"), default="f32",
                   help="dtype of diffusers' VAE; its documentation loads it in f32, which is also the faster one on CPUs (f32)")
    p.add_argument("--no-decode", action="store_true", help="leave out diffusers' decoding")
    p.add_argument("--json", type=pathlib.Path)
    p.add_argument("--markdown", type=pathlib.Path)
    return p.parse_args()


class Diffusers:
    def __init__(self, a):
        import torch
        from diffusers import WanPipeline
        from diffusers.utils import logging
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        torch.set_num_threads(a.threads)
        self.torch, self.a = torch, a
        self.pipe = WanPipeline.from_pretrained(str(a.model), torch_dtype={"bf16": torch.bfloat16, "f32": torch.float32}[a.dtype])
        if a.diffusers_vae == "f32":
            self.pipe.vae.to(torch.float32)
        self.pipe.set_progress_bar_config(disable=True)

    def clip(self):
        a, torch, times, decode = self.a, self.torch, [], []
        began = []
        inner = self.pipe.transformer.forward

        def forward(*args, **kw):      # the loop begins with the first forward
            if not began:
                began.append(time.perf_counter())
            return inner(*args, **kw)

        def after(pipe, i, t, kw):
            times.append(time.perf_counter())
            return {}

        self.pipe.transformer.forward = forward
        with torch.no_grad():
            latents = self.pipe(prompt=a.prompt, width=a.width, height=a.height, num_frames=a.frames, num_inference_steps=a.steps,
                                guidance_scale=a.guidance, generator=torch.Generator().manual_seed(0), output_type="latent",
                                callback_on_step_end=after).frames
        self.pipe.transformer.forward = inner
        if not a.no_decode:
            start = time.perf_counter()
            vae = self.pipe.vae
            with torch.no_grad():
                std = 1.0 / torch.tensor(vae.config.latents_std).view(1, -1, 1, 1, 1).to(vae.dtype)
                mean = torch.tensor(vae.config.latents_mean).view(1, -1, 1, 1, 1).to(vae.dtype)
                video = vae.decode(latents.to(vae.dtype) / std + mean, return_dict=False)[0]
                self.pipe.video_processor.postprocess_video(video, output_type="np")
            decode.append(time.perf_counter() - start)
        edges = began + times
        return {"steps": [b - c for c, b in zip(edges, edges[1:])], "decode": decode[0] if decode else None,
                "latents": latents.float()}


def praxino_clip(a, folder):
    from safetensors.torch import load_file
    stats, dump, video = folder / "stats.json", folder / "dump.safetensors", folder / "clip.y4m"
    cmd = [a.praxino, "render", a.prompt, "-m", str(a.model), "-W", str(a.width), "-H", str(a.height), "-f", str(a.frames), "-s",
           str(a.steps), "-g", str(a.guidance), "--seed", "0", "--device", "cpu", "--dtype", a.dtype, "--threads", str(a.threads),
           "--progress", "none", "--stats", str(stats), "--dump", str(dump), "-o", str(video)]
    for s in a.set:
        cmd += ["--set", s]
    subprocess.run(cmd, check=True)
    doc = json.loads(stats.read_text())
    last = load_file(str(dump))[f"latents.{a.steps:03d}"]
    return {"steps": [s["seconds"] for s in doc["steps"]], "decode": doc["phases"]["decode"], "latents": last,
            "peak": doc.get("peak_memory_bytes"), "version": doc.get("praxino")}


def summary(clips):
    steps = [t for c in clips for t in (c["steps"][1:] or c["steps"])]
    decodes = [c["decode"] for c in clips if c["decode"] is not None]
    return {"seconds_per_step": statistics.median(steps), "decode_seconds": statistics.median(decodes) if decodes else None,
            "all_steps": [c["steps"] for c in clips], "all_decodes": decodes}


def processor():
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor()


def table(doc):
    a, b = doc["praxino"], doc["diffusers"]
    rows = [("step (s)", a["seconds_per_step"], b["seconds_per_step"])]
    if b["decode_seconds"] is not None:
        rows.append(("decode (s)", a["decode_seconds"], b["decode_seconds"]))
    r = doc["request"]
    out = [f"{doc['model']}, {r['width']}x{r['height']}x{r['frames']}, guidance {r['guidance']:g}, {r['dtype']}, {r['threads']} threads, "
           f"{doc['machine']}; medians of {r['rounds']} clips of {r['steps']} steps each, taking turns; {doc['versions']}", "",
           "| | praxino | diffusers | ratio |", "|---|---|---|---|"]
    out += [f"| {name} | {x:.3f} | {y:.3f} | {y / x:.2f}x |" for name, x, y in rows]
    return "\n".join(out) + f"\n\nFinal latents differ by {doc['latents_rms']:.2e} (rms, relative).\n"


def main():
    a = arguments()
    import diffusers
    import torch
    theirs = Diffusers(a)
    ours, other = [], []
    with tempfile.TemporaryDirectory() as tmp:
        for i in range(a.rounds):
            ours.append(praxino_clip(a, pathlib.Path(tmp)))
            other.append(theirs.clip())
            print(f"round {i + 1}: praxino {ours[-1]['steps']} decode {ours[-1]['decode']}, diffusers {other[-1]['steps']} "
                  f"decode {other[-1]['decode']}", file=sys.stderr)
    x, y = ours[0]["latents"].double(), other[0]["latents"].double()
    keys = ("width", "height", "frames", "steps", "guidance", "rounds", "dtype", "diffusers_vae", "threads", "set")
    doc = {"model": a.model.name, "request": {k: getattr(a, k) for k in keys}, "machine": processor(),
           "versions": f"praxino {ours[0]['version']}, diffusers {diffusers.__version__}, torch {torch.__version__}",
           "praxino": {**summary(ours), "peak_memory_bytes": ours[0]["peak"]}, "diffusers": summary(other),
           "latents_rms": float((x - y).square().mean().sqrt() / y.square().mean().sqrt())}
    if a.json:
        a.json.write_text(json.dumps(doc, indent=1) + "\n")
    if a.markdown:
        a.markdown.write_text(table(doc))
    print(table(doc))


if __name__ == "__main__":
    main()
