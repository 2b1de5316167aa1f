"""The published ablation of LeMiCa on a model: minimax beside shortest-sum, one prompt beside many.

    scripts/lemica/ablation.py [--model models/tiny] [--budgets 6,8,10,12] [--steps 25] -o OUT

Measures a graph from the first line of --calibrate and one from all of it (an earlier OUT/many.json or OUT/one.json is taken as it is),
solves both objectives for every budget, renders the prompts of --test without a cache and under each schedule, same seed, and compares
frames with `praxino compare`. Writes OUT/ablation.json and prints a table: mean PSNR (whole clip) and SSIM (luma) over the prompts, the
worst prompt's PSNR, and the mean time of denoising. A plain run with as many steps as the budget stands beside them.
"""
import argparse
import json
import pathlib
import subprocess
import sys


def praxino(*words):
    r = subprocess.run(["./praxino", *map(str, words)], stdout=subprocess.PIPE, text=True)
    if r.returncode:
        sys.exit(r.returncode)
    return r.stdout


def render(a, prompt, seed, out, *words):
    stats = out.with_suffix(".json")
    praxino("render", prompt, "-m", a.model, "--seed", seed, "-o", out, "--stats", stats, "--progress", "none", *words)
    return json.loads(stats.read_text())["phases"]["denoise"]


def measure(a, out, prompts):
    if not out.exists():
        text = out.with_suffix(".txt")
        text.write_text("\n".join(prompts) + "\n")
        praxino("schedule", "build", "-m", a.model, "--prompts", text, "--dtype", "f32", "--steps", a.steps, "-o", out)
    return out


def variants(a, out, calibrate):
    """Name, budget and command-line words of every run that is compared."""
    graphs = {"one prompt": measure(a, out / "one.json", calibrate[:1]),
              f"{len(calibrate)} prompts": measure(a, out / "many.json", calibrate)}
    for budget in a.budgets:
        for name, graph in graphs.items():
            for objective in ("minimax", "sum"):
                file = out / f"{graph.stem}-{objective}-{budget}.json"
                praxino("schedule", "solve", graph, "--budget", budget, "--objective", objective, "--json", file)
                yield f"{objective}, {name}", budget, ["--steps", a.steps, "--cache", "lemica", "--schedule", file]
        yield "fewer steps", budget, ["--steps", budget]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", default="models/tiny")
    p.add_argument("--budgets", type=lambda s: [int(x) for x in s.split(",")], default=[6, 8, 10, 12])
    p.add_argument("--steps", type=int, default=25)
    p.add_argument("--calibrate", type=pathlib.Path, default=pathlib.Path("scripts/lemica/calibrate.txt"))
    p.add_argument("--test", type=pathlib.Path, default=pathlib.Path("scripts/lemica/test.txt"))
    p.add_argument("-o", "--output", type=pathlib.Path, required=True)
    a = p.parse_args()
    out = a.output
    out.mkdir(parents=True, exist_ok=True)
    test = [line for line in a.test.read_text().splitlines() if line.strip()]
    calibrate = [line for line in a.calibrate.read_text().splitlines() if line.strip()]
    if set(test) & set(calibrate):
        sys.exit("ablation: a prompt is in both files")
    runs = list(variants(a, out, calibrate))
    rows = [dict(name=name, budget=budget, psnr=[], ssim=[], seconds=[]) for name, budget, _ in runs]
    plain = []
    for i, prompt in enumerate(test):
        seed = 1000 + i
        plain.append(render(a, prompt, seed, out / "plain.y4m", "--steps", a.steps))
        for row, (_, _, words) in zip(rows, runs):
            row["seconds"].append(render(a, prompt, seed, out / "run.y4m", *words))
            praxino("compare", out / "plain.y4m", out / "run.y4m", "--json", out / "compare.json")
            result = json.loads((out / "compare.json").read_text())
            row["psnr"].append(float("inf") if result["identical"] else result["psnr"]["clip"])
            row["ssim"].append(result["ssim"]["luma"])
        print(f"{i + 1} of {len(test)} prompts", file=sys.stderr)
    (out / "ablation.json").write_text(json.dumps(dict(plain_seconds=plain, rows=rows), indent=1) + "\n")
    average = lambda v: sum(v) / len(v)
    print(f"no cache: {average(plain):.3f} s\n\n| budget | schedule | PSNR | worst | SSIM | seconds |\n|---|---|---|---|---|---|")
    for row in rows:
        print(f"| {row['budget']} | {row['name']} | {average(row['psnr']):.2f} | {min(row['psnr']):.2f} | {average(row['ssim']):.4f} | "
              f"{average(row['seconds']):.3f} |")


if __name__ == "__main__":
    main()
