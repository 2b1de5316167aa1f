#!/usr/bin/env python3
"""Seconds per step (guidance on: two forwards) and seconds of decoding, praxino against diffusers: the same directory, dtype, size,
threads and noise, taking turns in one run; medians. Several dtypes come one after the other into one table, with praxino beside the
better of diffusers' dtypes below it.

    python scripts/make_random_model.py /tmp/wan13
    python scripts/bench_vs_diffusers.py /tmp/wan13 --threads 2 --dtype bf16 f32 --json out.json --markdown out.md
    python scripts/bench_vs_diffusers.py /tmp/wan13 --device cuda -W 832 -H 480 -f 81 --then attention=radial

Both hold the weights at the same time: the 1.3B shape takes 7 GB in bf16, 15 GB in f32. With --device cuda both hold them on the GPU;
diffusers runs there as its documentation says (.to("cuda")), each of its clocks waits for the device, and the noise is the CPU's for both.
--then SETTINGS adds a column of praxino with further settings (separated by blanks), in the same rounds with the same weights.

The first step of every clip is left out (both warm up there) when there is more than one. As a check that both did the same work, the
distance of their final latents is reported. Needs what tests/golden/requirements.txt lists.
"""
import argparse
import ctypes
import gc
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time
import warnings

warnings.filterwarnings("ignore")
ROOT = pathlib.Path(__file__).resolve().parent.parent


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", type=pathlib.Path)
    p.add_argument("--library", type=pathlib.Path, default=ROOT / "build" / "libpraxino.so", help="the library to measure")
    p.add_argument("-W", "--width", type=int, default=256)
    p.add_argument("-H", "--height", type=int, default=256)
    p.add_argument("-f", "--frames", type=int, default=17)
    p.add_argument("-s", "--steps", type=int, default=2)
    p.add_argument("-g", "--guidance", type=float, default=5.0)
    p.add_argument("--rounds", type=int, default=3, help="clips of each")
    p.add_argument("--dtype", choices=("bf16", "f32"), nargs="+", default=["bf16"])
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--prompt", default="a red ball bounces on a blue floor")
    p.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    p.add_argument("--compile", action="store_true", help="diffusers' transformer through torch.compile")
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="further settings of praxino, as --set cache=dbcache")
    p.add_argument("--then", default="", metavar="SETTINGS", help="those of one more praxino clip a round, beside the first")
    p.add_argument("--diffusers-vae", choices=("f32", "same"), default="f32",
                   help="dtype of diffusers' VAE; its documentation loads it in f32, which is also the faster one on CPUs (f32)")
    p.add_argument("--no-decode", action="store_true", help="measure the steps only")
    p.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    p.add_argument("--json", type=pathlib.Path)
    p.add_argument("--markdown", type=pathlib.Path)
    return p.parse_args()


def now():
    """Wall and processor seconds: the latter (of all threads) tells the work on a machine that others use too."""
    return time.perf_counter(), time.process_time()


def peak_resident():
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    sys.exit("/proc/self/status: no VmHWM")


def since(start):
    return [b - c for c, b in zip(start, now())]


def settings_of(a):
    """Of each praxino clip of a round."""
    first = dict(s.split("=", 1) for s in a.set)
    return [first] + ([{**first, **dict(s.split("=", 1) for s in a.then.split())}] if a.then else [])


class Diffusers:
    def __init__(self, a, dtype):
        import torch
        from diffusers import WanPipeline
        from diffusers.utils import logging
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        torch.set_num_threads(a.threads)
        self.torch, self.a = torch, a
        self.pipe = WanPipeline.from_pretrained(str(a.model), torch_dtype={"bf16": torch.bfloat16, "f32": torch.float32}[dtype])
        if a.diffusers_vae == "f32":
            self.pipe.vae.to(torch.float32)
        self.pipe.to(a.device)
        if a.compile:
            self.pipe.transformer.compile()
        self.pipe.set_progress_bar_config(disable=True)

    def now(self):
        if self.a.device == "cuda":
            self.torch.cuda.synchronize()
        return now()

    def clip(self):
        a, torch, times, decode = self.a, self.torch, [], None
        began = []
        inner = self.pipe.transformer.forward

        def forward(*args, **kw):      # the loop begins with the first forward
            if not began:
                began.append(self.now())
            return inner(*args, **kw)

        def after(pipe, i, t, kw):
            times.append(self.now())
            return {}

        self.pipe.transformer.forward = forward
        with torch.no_grad():
            latents = self.pipe(prompt=a.prompt, width=a.width, height=a.height, num_frames=a.frames, num_inference_steps=a.steps,
                                guidance_scale=a.guidance, generator=torch.Generator().manual_seed(0), output_type="latent",
                                callback_on_step_end=after).frames
        self.pipe.transformer.forward = inner
        if not a.no_decode:
            start = self.now()
            vae = self.pipe.vae
            with torch.no_grad():
                std = 1.0 / torch.tensor(vae.config.latents_std).view(1, -1, 1, 1, 1).to(latents.device, vae.dtype)
                mean = torch.tensor(vae.config.latents_mean).view(1, -1, 1, 1, 1).to(latents.device, vae.dtype)
                video = vae.decode(latents.to(vae.dtype) / std + mean, return_dict=False)[0]
                self.pipe.video_processor.postprocess_video(video, output_type="np")
            decode = [b - c for c, b in zip(start, self.now())]
        edges = began + times
        return {"steps": [[b[k] - c[k] for k in (0, 1)] for c, b in zip(edges, edges[1:])], "decode": decode,
                "latents": latents.float().cpu()}

    def peak_on_device(self):
        return self.torch.cuda.max_memory_reserved() if self.a.device == "cuda" else None


class EngineParams(ctypes.Structure):
    _fields_ = [("device", ctypes.c_char_p), ("isa", ctypes.c_char_p), ("dtype", ctypes.c_char_p), ("threads", ctypes.c_int),
                ("log", ctypes.c_void_p), ("log_cookie", ctypes.c_void_p), ("log_level", ctypes.c_int),
                ("allocator", ctypes.c_void_p), ("reserved", ctypes.c_uint8 * 32)]


class Praxino:
    """libpraxino in a process of its own (worker() below): torch's threads do not spin beside it, and weights stay loaded."""

    def __init__(self, dtype):
        self.child = subprocess.Popen([sys.executable, __file__, *sys.argv[1:], "--worker", "--dtype", dtype], stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, text=True)

    def clip(self, which):
        self.child.stdin.write(f"{which}\n")
        self.child.stdin.flush()
        line = self.child.stdout.readline()
        if not line:
            sys.exit("praxino: the worker ended")
        return json.loads(line)

    def close(self):
        self.child.stdin.close()
        self.child.wait()


def worker(a):
    lib = ctypes.CDLL(str(a.library))
    lib.prx_job_last_error.restype = lib.prx_engine_last_error.restype = ctypes.c_char_p
    pointer, params = ctypes.c_void_p, EngineParams()
    engine, model = pointer(), pointer()

    def must(status, text, owner):
        if status < 0:
            sys.exit("praxino: " + text(owner).decode())
        return status

    lib.prx_engine_default_params(ctypes.byref(params))
    params.device, params.dtype, params.threads = a.device.encode(), a.dtype[0].encode(), a.threads
    must(lib.prx_engine_open(ctypes.byref(engine), ctypes.byref(params)), lib.prx_engine_last_error, engine)
    must(lib.prx_model_open(ctypes.byref(model), engine, str(a.model).encode()), lib.prx_engine_last_error, engine)
    for line in sys.stdin:
        job = pointer()
        must(lib.prx_job_open(ctypes.byref(job), model), lib.prx_engine_last_error, engine)
        settings = {"prompt": a.prompt, "width": a.width, "height": a.height, "frames": a.frames, "steps": a.steps, "seed": 0,
                    "guidance": a.guidance, **settings_of(a)[int(line)]}
        for key, value in settings.items():
            must(lib.prx_job_set(job, key.encode(), str(value).encode()), lib.prx_job_last_error, job)
        times = []
        must(lib.prx_job_step(job), lib.prx_job_last_error, job)      # text
        for _ in range(a.steps):
            start = now()
            must(lib.prx_job_step(job), lib.prx_job_last_error, job)
            times.append(since(start))
        start, more = now(), not a.no_decode
        while more:
            more = must(lib.prx_job_step(job), lib.prx_job_last_error, job)
        decode = since(start)
        latents, shape, text = ctypes.POINTER(ctypes.c_float)(), (ctypes.c_int64 * 4)(), ctypes.c_char_p()
        must(lib.prx_job_get_latents(job, ctypes.byref(latents), shape), lib.prx_job_last_error, job)
        must(lib.prx_job_stats(job, ctypes.byref(text)), lib.prx_job_last_error, job)
        doc = json.loads(text.value)
        lib.prx_text_free(engine, text)
        n = shape[0] * shape[1] * shape[2] * shape[3]
        print(json.dumps({"steps": times, "decode": None if a.no_decode else decode, "latents": latents[:n],
                          "peak": doc.get("peak_memory_bytes"), "resident": peak_resident(), "version": doc.get("praxino")}), flush=True)
        lib.prx_job_close(ctypes.byref(job))
    lib.prx_model_close(ctypes.byref(model))
    lib.prx_engine_close(ctypes.byref(engine))


def summary(clips):
    """Of the clips of one kind."""
    steps = [t for c in clips for t in (c["steps"][1:] or c["steps"])]
    decodes = [c["decode"] for c in clips if c["decode"] is not None]
    columns = {"seconds_per_step": (steps, 0), "cpu_seconds_per_step": (steps, 1), "decode_seconds": (decodes, 0),
               "decode_cpu_seconds": (decodes, 1)}
    taken = {name: [r[k] for r in rows] for name, (rows, k) in columns.items()}
    return {**{name: statistics.median(t) if t else None for name, t in taken.items()},
            "range": {name: [min(t), max(t)] if t else None for name, t in taken.items()},
            "all_steps": [c["steps"] for c in clips], "all_decodes": decodes}


def processor():
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor()


def machine(a):
    if a.device == "cpu":
        return processor()
    import torch
    return torch.cuda.get_device_name(0)


ROWS = {"seconds_per_step": "step (s)", "cpu_seconds_per_step": "step (processor s)", "decode_seconds": "decode (s)",
        "decode_cpu_seconds": "decode (processor s)"}


def best(doc):
    """praxino beside whichever dtype is the faster one for diffusers."""
    lines = []
    for key, name in ROWS.items():
        theirs = {t: r["diffusers"][key] for t, r in doc["results"].items() if r["diffusers"][key] is not None}
        if not theirs or len(theirs) < 2:
            continue
        fastest = min(theirs, key=theirs.get)
        ratios = ", ".join(f"{t} {theirs[fastest] / r['praxino'][key]:.2f}x" for t, r in doc["results"].items())
        lines.append(f"{name} against diffusers in {fastest}, its faster dtype: {ratios}.")
    return lines


def table(doc):
    r = doc["request"]
    where = f"{r['threads']} threads, {doc['machine']}" if r["device"] == "cpu" else doc["machine"]
    out = [f"{doc['model']}, {r['width']}x{r['height']}x{r['frames']}, guidance {r['guidance']:g}, {where}; medians of {r['rounds']} clips "
           f"of {r['steps']} steps each, taking turns; {doc['versions']}", "",
           "| | dtype | praxino | range | diffusers | range | ratio |", "|---|---|---|---|---|---|---|"]
    for dtype, one in doc["results"].items():
        b = one["diffusers"]
        for suffix in ("", "_then"):
            a = one.get("praxino" + suffix)
            for key, name in ROWS.items() if a else ():
                if b[key] is not None and (r["device"] == "cpu" or "cpu" not in key):
                    with_what = f", {r['then']}" if suffix else ""
                    out.append(f"| {name}{with_what} | {dtype} | {a[key]:.3f} | {spread(a, key)} | {b[key]:.3f} | {spread(b, key)} "
                               f"| {b[key] / a[key]:.2f}x |")
        for key, name in (("peak_resident_bytes", "peak resident (GB)"), ("peak_device_bytes", "peak on the device (GB)")):
            a = one["praxino"]
            if a.get(key) and b.get(key):
                out.append(f"| {name} | {dtype} | {a[key] / 1e9:.2f} | | {b[key] / 1e9:.2f} | | {b[key] / a[key]:.2f}x |")
    out += ["", *best(doc), "Final latents differ by " +
            ", ".join(f"{one['latents_rms']:.2e} ({dtype})" for dtype, one in doc["results"].items()) + " (rms, relative)."]
    return "\n".join(out) + "\n"


def spread(side, key):
    low, high = side["range"][key]
    return f"{low:.3f} to {high:.3f}"


def measure(a, dtype):
    import torch
    pathlib.Path("/proc/self/clear_refs").write_text("5")      # the peak of this dtype, not of the one before
    theirs, engine = Diffusers(a, dtype), Praxino(dtype)
    kinds = len(settings_of(a))
    ours, other = [[] for _ in range(kinds)], []
    for i in range(a.rounds):
        for k in range(kinds):
            ours[k].append(engine.clip(k))
        other.append(theirs.clip())
        said = [f"{one[-1]['steps']} decode {one[-1]['decode']}" for one in (*ours, other)]
        print(f"{dtype}, round {i + 1}: praxino {', then '.join(said[:-1])}, diffusers {said[-1]}", file=sys.stderr, flush=True)
    engine.close()
    x, y = torch.tensor(ours[0][0]["latents"], dtype=torch.float64), other[0]["latents"].double().flatten()
    first = ours[0]
    on_device = first[0]["peak"] if a.device == "cuda" else None
    return {"praxino": {**summary(first), "peak_memory_bytes": first[0]["peak"], "peak_resident_bytes": first[-1]["resident"],
                        "peak_device_bytes": on_device},
            **({"praxino_then": summary(ours[1])} if kinds > 1 else {}),
            "diffusers": {**summary(other), "peak_resident_bytes": peak_resident(), "peak_device_bytes": theirs.peak_on_device()},
            "version": first[0]["version"], "latents_rms": float((x - y).square().mean().sqrt() / y.square().mean().sqrt())}


def main():
    a = arguments()
    if a.worker:
        return worker(a)
    import diffusers
    import torch
    results = {}
    for dtype in dict.fromkeys(a.dtype):
        results[dtype] = measure(a, dtype)
        gc.collect()
    keys = ("width", "height", "frames", "steps", "guidance", "rounds", "diffusers_vae", "threads", "device", "compile", "set", "then")
    version = next(iter(results.values()))["version"]
    doc = {"model": a.model.name, "request": {k: getattr(a, k) for k in keys}, "machine": machine(a),
           "versions": f"praxino {version}, diffusers {diffusers.__version__}, torch {torch.__version__}", "results": results}
    if a.json:
        a.json.write_text(json.dumps(doc, indent=1) + "\n")
    if a.markdown:
        a.markdown.write_text(table(doc))
    print(table(doc))


if __name__ == "__main__":
    main()
