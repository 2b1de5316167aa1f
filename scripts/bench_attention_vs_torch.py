#!/usr/bin/env python3
"""Dense self-attention in bf16 on the same q, k and v, same threads: praxino's kernel against PyTorch's scaled_dot_product_attention on the
CPU, and against the same product written as matmul, softmax, matmul (oneDNN inside PyTorch). First the outputs: the script fails
where ours and SDPA's differ by more than bf16 explains. Then times, taking turns; medians.

    python scripts/bench_attention_vs_torch.py --threads 2 --json out.json --markdown out.md

Needs torch. praxino reads q, k, v from a file and writes its output to one (`praxino bench qkv`). One row is {"tokens", "head_dim",
"heads", "difference" (the largest |ours - SDPA's|), "of_bound" (the largest share of what is allowed at its place), "praxino", "sdpa",
"gemms"}, times in seconds.

The bound: weights and output are rounded to bf16 on both sides, each by at most half a unit, 2^-9, of a sum of p |v|: four times
that, and a tenth more for the sums in f32.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
SPREAD = 3.0        # of q: logits of that deviation, so that a few keys have most of the mass and an error shows
BOUND = 1.1 * 2.0 ** -7


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--praxino", default=str(ROOT / "build" / "praxino"), help="the command to measure")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--tokens", type=int, nargs="+", default=[4096, 8192, 16384, 32768])
    p.add_argument("--head-dim", type=int, nargs="+", default=[64, 128])
    p.add_argument("--heads", type=int, default=1)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--json", type=pathlib.Path)
    p.add_argument("--markdown", type=pathlib.Path)
    return p.parse_args()


# ---- the file between the two ----

def write_tensors(torch, path, tensors):
    """safetensors: the length of the header, the header, then the data; bf16 as it lies in memory."""
    header, at, parts = {}, 0, []
    for name, t in tensors.items():
        parts.append(t.contiguous().view(torch.int16).numpy().tobytes())
        header[name] = {"dtype": "BF16", "shape": list(t.shape), "data_offsets": [at, at + len(parts[-1])]}
        at += len(parts[-1])
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(parts))


def read_tensor(torch, path, name):
    data = bytearray(path.read_bytes())
    n = int.from_bytes(data[:8], "little")
    of = json.loads(data[8:8 + n])[name]
    begin, end = of["data_offsets"]
    assert of["dtype"] == "BF16", of
    return torch.frombuffer(data[8 + n + begin:8 + n + end], dtype=torch.bfloat16).reshape(of["shape"])


# ---- contenders ----

def praxino(a, folder, output=None):
    command = [a.praxino, "bench", "qkv", "--threads", str(a.threads), "--set", f"file={folder / 'qkv.safetensors'}",
               "--set", "repeats=1", "--json", "-"] + (["--set", f"output={output}"] if output else [])
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)[0]["seconds_median"]


def timed(f):
    start = time.perf_counter()
    f()
    return time.perf_counter() - start


def by_matmul(torch, q, k, v):
    """In blocks of queries, so that the scores fit in memory."""
    out = torch.empty_like(q)
    for i in range(0, q.shape[2], 1024):
        s = torch.softmax((q[:, :, i:i + 1024] @ k.transpose(2, 3)) * q.shape[3] ** -0.5, dim=3)
        out[:, :, i:i + 1024] = s @ v
    return out


def agreement(a, torch, folder, q, k, v):
    """The largest difference, and the largest share of its bound."""
    sdpa = torch.nn.functional.scaled_dot_product_attention
    praxino(a, folder, folder / "o.safetensors")
    ours = read_tensor(torch, folder / "o.safetensors", "o").transpose(0, 1).float()
    theirs, mass = sdpa(q, k, v)[0].float(), sdpa(q, k, v.abs())[0].float()
    off = (ours - theirs).abs()
    return off.max().item(), (off / (BOUND * mass + 1e-30)).max().item()


def row(a, torch, folder, tokens, dim):
    """Tensors lie as the file has them, [tokens, heads, head_dim], and as torch wants them, [1, heads, tokens, head_dim]."""
    made = {n: torch.randn(tokens, a.heads, dim) * (SPREAD if n == "q" else 1) for n in "qkv"}
    made = {n: t.to(torch.bfloat16) for n, t in made.items()}
    write_tensors(torch, folder / "qkv.safetensors", made)
    q, k, v = (t.transpose(0, 1)[None].contiguous() for t in made.values())
    difference, of_bound = agreement(a, torch, folder, q, k, v)
    if not of_bound <= 1:
        raise SystemExit(f"{tokens} tokens, head_dim {dim}: outputs differ by {difference:.3g}, {of_bound:.2f} of what is allowed there")
    times = {"praxino": [], "sdpa": [], "gemms": []}
    for _ in range(a.rounds):
        times["praxino"].append(praxino(a, folder))
        times["sdpa"].append(timed(lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v)))
        times["gemms"].append(timed(lambda: by_matmul(torch, q, k, v)))
    return {"tokens": tokens, "head_dim": dim, "heads": a.heads, "difference": difference, "of_bound": of_bound} | {
        n: statistics.median(t) for n, t in times.items()}


def table(rows):
    lines = ["| tokens | head dim | praxino s | SDPA s | matmuls s | GFLOP/s | times SDPA | times matmuls | largest difference "
             "| of its bound |", "|" + "---|" * 10]
    for r in rows:
        flops = 4.0 * r["tokens"] ** 2 * r["head_dim"] * r["heads"]
        lines.append(f"| {r['tokens']} | {r['head_dim']} | {r['praxino']:.3f} | {r['sdpa']:.3f} | {r['gemms']:.3f} "
                     f"| {flops / r['praxino'] / 1e9:.0f} | {r['sdpa'] / r['praxino']:.2f} | {r['gemms'] / r['praxino']:.2f} "
                     f"| {r['difference']:.4f} | {r['of_bound']:.2f} |")
    return "\n".join(lines) + "\n"


def main():
    a = arguments()
    import torch
    torch.set_num_threads(a.threads)
    torch.manual_seed(1)
    rows = []
    with torch.inference_mode(), tempfile.TemporaryDirectory() as folder:
        for tokens in a.tokens:
            for dim in a.head_dim:
                rows.append(row(a, torch, pathlib.Path(folder), tokens, dim))
                print(table(rows[-1:]).splitlines()[-1], flush=True)
    if a.json:
        a.json.write_text(json.dumps({"torch": torch.__version__, "threads": a.threads, "rows": rows}, indent=1) + "\n")
    if a.markdown:
        a.markdown.write_text(table(rows))


if __name__ == "__main__":
    main()
