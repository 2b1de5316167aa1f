"""What the scripts of this folder share: the command, paths through a graph, and schedules run by `praxino sweep`."""
import hashlib
import json
import pathlib
import subprocess
import sys


def praxino(*words):
    """Runs the command; its messages and its progress stay visible."""
    r = subprocess.run(["./praxino", *map(str, words)])
    if r.returncode:
        sys.exit(r.returncode)


def lines(path):
    return [line for line in pathlib.Path(path).read_text().splitlines() if line.strip() and not line.startswith("#")]


class Graph:
    """A graph file: weight(i, j) of every jump, 0 for neighbours, None where there is none."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.file = json.loads(self.path.read_text())
        self.steps = self.file["steps"]
        self.max_gap = self.file.get("max_gap", self.steps - 1)
        self.edge = {(e["from"], e["to"]): e["weight"] for e in self.file["edges"]}

    def weight(self, i, j):
        return 0.0 if j == i + 1 else self.edge.get((i, j))

    def weights(self, path):
        """Of the cached segments, largest first."""
        return sorted((self.weight(i, j) for i, j in zip(path, path[1:]) if j - i > 1), reverse=True)

    def solve(self, budgets, folder):
        """{budget: {"minimax": path, "sum": path}}, from `praxino schedule solve`, which computes both."""
        folder.mkdir(parents=True, exist_ok=True)
        pattern = folder / "solved-%d.json"
        praxino("schedule", "solve", self.path, "--budget", ",".join(map(str, budgets)), "--json", pattern)
        out = {}
        for b in budgets:
            s = json.loads((folder / f"solved-{b}.json").read_text())
            out[b] = {"minimax": s["computed"], "sum": s["shortest_sum"]["computed"]}
        return out

    def schedule(self, path, folder):
        """A schedule file of this path. Its name holds its content, because a sweep knows a row by its settings."""
        text = json.dumps({"steps": self.steps, "computed": list(path), "sigmas": self.file["sigmas"], "model": self.file["model"],
                           "settings": {"reuse": self.file["settings"]["reuse"]}})
        file = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
        return file


def sweep(out, model, prompts, seeds, base, settings, description):
    """Runs the settings on every prompt and seed; again with the same OUT it goes on. Returns {label: [row of results.jsonl]}."""
    spec = {"description": description, "model": str(model), "prompts": prompts, "seeds": seeds, "base": base, "settings": settings}
    out.mkdir(parents=True, exist_ok=True)
    file = out / "spec.json"
    file.write_text(json.dumps(spec, indent=1) + "\n")
    print(f"{len(settings)} settings and the reference on {len(prompts) * len(seeds)} clips; the bar says how long", file=sys.stderr)
    praxino("sweep", file, "-o", out / "rows", "--json", out / "summary.json")
    rows = {s["label"]: [] for s in settings}
    for line in (out / "rows" / "results.jsonl").read_text().splitlines():
        row = json.loads(line)
        if row["label"] in rows and row["status"] == "ok" and row["prompt"] in prompts and row["seed"] in seeds:
            rows[row["label"]].append(row)
    return rows


def mean(values):
    values = list(values)
    return sum(values) / len(values) if values else float("nan")


def psnr(row):
    return 99.0 if row["quality"]["identical"] else row["quality"]["psnr"]
