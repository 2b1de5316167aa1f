#!/usr/bin/env python3
"""Dense self-attention in bf16: praxino's kernel against PyTorch's scaled_dot_product_attention on the CPU, and against the same product
written as matmul, softmax, matmul (oneDNN inside PyTorch); same sizes, same threads, taking turns; medians.

    python scripts/bench_attention_vs_torch.py --threads 2 --json out.json --markdown out.md

Needs torch. One row is {"tokens", "head_dim", "heads", "praxino", "sdpa", "gemms"}, in seconds.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent


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


def praxino(a, tokens, dim):
    out = subprocess.run([a.praxino, "bench", "attention", "--threads", str(a.threads), "--set", f"tokens={tokens}",
                          "--set", f"head_dim={dim}", "--set", f"heads={a.heads}", "--set", "only=dense", "--set", "repeats=1",
                          "--json", "-"], check=True, capture_output=True, text=True).stdout
    return json.loads(out)[0]["seconds_median"]


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


def row(a, torch, tokens, dim):
    q, k, v = (torch.randn(1, a.heads, tokens, dim).to(torch.bfloat16) for _ in range(3))
    times = {"praxino": [], "sdpa": [], "gemms": []}
    for _ in range(a.rounds):
        times["praxino"].append(praxino(a, tokens, dim))
        times["sdpa"].append(timed(lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v)))
        times["gemms"].append(timed(lambda: by_matmul(torch, q, k, v)))
    return {"tokens": tokens, "head_dim": dim, "heads": a.heads} | {n: statistics.median(t) for n, t in times.items()}


def table(rows):
    lines = ["| tokens | head dim | praxino s | SDPA s | matmuls s | GFLOP/s | times SDPA | times matmuls |", "|" + "---|" * 8]
    for r in rows:
        flops = 4.0 * r["tokens"] ** 2 * r["head_dim"] * r["heads"]
        lines.append(f"| {r['tokens']} | {r['head_dim']} | {r['praxino']:.3f} | {r['sdpa']:.3f} | {r['gemms']:.3f} "
                     f"| {flops / r['praxino'] / 1e9:.0f} | {r['sdpa'] / r['praxino']:.2f} | {r['gemms'] / r['praxino']:.2f} |")
    return "\n".join(lines) + "\n"


def main():
    a = arguments()
    import torch
    torch.set_num_threads(a.threads)
    torch.manual_seed(1)
    rows = []
    with torch.inference_mode():
        for tokens in a.tokens:
            for dim in a.head_dim:
                rows.append(row(a, torch, tokens, dim))
                print(table(rows[-1:]).splitlines()[-1], flush=True)
    if a.json:
        a.json.write_text(json.dumps({"torch": torch.__version__, "threads": a.threads, "rows": rows}, indent=1) + "\n")
    if a.markdown:
        a.markdown.write_text(table(rows))


if __name__ == "__main__":
    main()
