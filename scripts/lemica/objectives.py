"""Why minimax and shortest-sum agree or differ on a graph, and which of the two the error of a whole run follows.

    scripts/lemica/objectives.py [--graph models/tiny/lemica_graph.json] [-o OUT [--budgets 6,8,10,12] [--paths 12] [--prompts 6]]

Without -o nothing is rendered: how weights grow with the steps that a jump caches (exponent, by thirds of the run), how far starts differ,
the share of jumps where the growth is convex, and for every budget the two best paths with the largest weight and the sum of both.
Growth above linear makes long jumps dear to a sum too: then both objectives cut the run alike.
With -o the two paths of each budget and random ones beside them run on prompts of --test, and three summaries of a path's weights (largest,
sum, root of squares) are judged by how well their order is the order of the measured errors (Spearman), over all paths and within a budget.
"""
import argparse
import json
import math
import pathlib
import random
import tempfile

import lab

MEASURES = {"largest": max, "root of squares": lambda w: math.sqrt(sum(x * x for x in w)), "sum": sum}


def slope(points):
    """Of a line through (x, y) by least squares."""
    mx, my = lab.mean(x for x, _ in points), lab.mean(y for _, y in points)
    return sum((x - mx) * (y - my) for x, y in points) / sum((x - mx) ** 2 for x, _ in points)


def exponent(g, starts):
    """p of w(i, i + n) ~ (n - 1)^p, n - 1 being the steps that are cached; each start about its own mean."""
    points = []
    for i in starts:
        row = [(math.log(n - 1), math.log(w)) for n in range(2, g.max_gap + 1) if (w := g.edge.get((i, i + n)))]
        if len(row) > 2:
            mx, my = lab.mean(x for x, _ in row), lab.mean(y for _, y in row)
            points += [(x - mx, y - my) for x, y in row]
    return slope(points) if points else float("nan")


def print_growth(g):
    third = g.steps // 3
    parts = [("first", range(third)), ("middle", range(third, 2 * third)), ("last", range(2 * third, g.steps))]
    print("weights grow as (cached steps)^p: " + ", ".join(f"{name} third p = {exponent(g, r):.2f}" for name, r in parts))
    print("\n| jump | least | at | median | largest | at | largest / least |\n|---|---|---|---|---|---|---|")
    for n in range(2, g.max_gap + 1):
        row = sorted((g.edge[i, i + n], i) for i in range(g.steps) if (i, i + n) in g.edge)
        print("| %d | %.5f | %d | %.5f | %.5f | %d | %.1f |" % (n, *row[0], row[len(row) // 2][0], *row[-1], row[-1][0] / row[0][0]))
    bends = [g.edge[i, i + n + 1] - 2 * g.edge[i, i + n] + (g.edge[i, i + n - 1] if n > 2 else 0)
             for i in range(g.steps) for n in range(2, g.max_gap) if (i, i + n + 1) in g.edge]
    print(f"\nconvex in the length at {sum(b > 0 for b in bends)} of {len(bends)} places")


def print_paths(g, solved):
    print("\n| budget | largest: minimax | sum path | x | sum: minimax | sum path | x | paths |\n|---|---|---|---|---|---|---|---|")
    for b, both in solved.items():
        m, s = g.weights(both["minimax"]), g.weights(both["sum"])
        if not m:
            continue
        names = [" ".join(map(str, both[k])) for k in ("minimax", "sum")]
        differ = "same" if names[0] == names[1] else " / ".join(names)
        print("| %d | %.5f | %.5f | %.2f | %.5f | %.5f | %.2f | %s |" % (
            b, m[0], s[0], s[0] / m[0], sum(m), sum(s), sum(m) / sum(s), differ))


def random_path(g, budget, rng):
    """Uniform among the paths of the budget whose jumps the graph has."""
    while True:
        path = [0, *sorted(rng.sample(range(1, g.steps - 1), budget - 2)), g.steps - 1]
        if all(g.weight(i, j) is not None for i, j in zip(path, path[1:])):
            return path


def near_path(g, path, rng):
    """One step of a good path moved by one."""
    while True:
        k = rng.randrange(1, len(path) - 1)
        p = sorted({*path[:k], path[k] + rng.choice((-1, 1)), *path[k + 1:]})
        if len(p) == len(path) and all(g.weight(i, j) is not None for i, j in zip(p, p[1:])):
            return p


def choose(g, solved, budgets, count):
    """(budget, path), each once: the two best, and half random, half next to the best."""
    rng, out = random.Random(0), []
    for b in budgets:
        paths = [solved[b]["minimax"], solved[b]["sum"]]
        for k in range(20 * count):
            if len({*map(tuple, paths)}) >= count + 2:
                break
            paths.append(random_path(g, b, rng) if k % 2 else near_path(g, paths[k // 2 % len(paths)], rng))
        out += [(b, p) for p in dict.fromkeys(map(tuple, paths))]
    return out


def ranks(values):
    order = sorted(range(len(values)), key=lambda i: values[i])
    out = [0.0] * len(values)
    for at, i in enumerate(order):
        out[i] = at
    for v in set(values):                       # ties share their mean rank
        same = [i for i, x in enumerate(values) if x == v]
        share = lab.mean(out[i] for i in same)
        for i in same:
            out[i] = share
    return out


def spearman(x, y):
    a, b = ranks(x), ranks(y)
    ma, mb = lab.mean(a), lab.mean(b)
    top = sum((p - ma) * (q - mb) for p, q in zip(a, b))
    bottom = math.sqrt(sum((p - ma) ** 2 for p in a) * sum((q - mb) ** 2 for q in b))
    return top / bottom if bottom else float("nan")


def judge(a, g, solved):
    chosen = choose(g, solved, a.budgets, a.paths)
    model = a.model or a.graph.parent
    test = [p for p in lab.lines(a.test) if p not in g.file["settings"]["prompts"]][:a.prompts]
    settings = [{"label": " ".join(map(str, p)), "cache": "lemica", "schedule": str(g.schedule(p, a.output / "schedules"))}
                for _, p in chosen]
    rows = lab.sweep(a.output / "sweep", model, test, [1000], {"steps": g.steps, "dtype": g.file["settings"]["dtype"]}, settings,
                     "what the weights of a path say of a whole run")
    found = []
    for b, p in chosen:
        r, w = rows[" ".join(map(str, p))], g.weights(p)
        found.append({"budget": b, "path": p, "minimax": list(p) == solved[b]["minimax"], "sum_path": list(p) == solved[b]["sum"],
                      "error": lab.mean(x["quality"]["latent_error"] for x in r), "psnr": lab.mean(map(lab.psnr, r)),
                      **{name: f(w) for name, f in MEASURES.items()}})
    (a.output / "objectives.json").write_text(json.dumps(found, indent=1) + "\n")
    print("\n| budget | path | largest | sum | error | PSNR | |\n|---|---|---|---|---|---|---|")
    for f in found:
        if f["minimax"] or f["sum_path"]:
            name = ", ".join(n for n, on in (("minimax", f["minimax"]), ("sum", f["sum_path"])) if on)
            better = sum(o["error"] < f["error"] for o in found if o["budget"] == f["budget"])
            print("| %d | %s | %.5f | %.5f | %.4f | %.2f | %s; %d of %d others are better |" % (
                f["budget"], " ".join(map(str, f["path"])), f["largest"], f["sum"], f["error"], f["psnr"], name, better,
                sum(o["budget"] == f["budget"] for o in found) - 1))
    print("\n| Spearman of the measured error with | all paths | " + " | ".join(f"budget {b}" for b in a.budgets) + " |")
    print("|---|---|" + "---|" * len(a.budgets))
    for name in MEASURES:
        groups = [found] + [[f for f in found if f["budget"] == b] for b in a.budgets]
        print("| %s | " % name + " | ".join("%.2f" % spearman([f[name] for f in x], [f["error"] for f in x]) for x in groups) + " |")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--graph", type=pathlib.Path, default=pathlib.Path("models/tiny/lemica_graph.json"))
    p.add_argument("--model", type=pathlib.Path, help="(the graph's folder)")
    p.add_argument("--budgets", type=lambda s: [int(x) for x in s.split(",")], default=[6, 8, 10, 12])
    p.add_argument("--paths", type=int, default=12, help="random ones of each budget")
    p.add_argument("--test", type=pathlib.Path, default=pathlib.Path("scripts/lemica/test.txt"))
    p.add_argument("--prompts", type=int, default=6)
    p.add_argument("-o", "--output", type=pathlib.Path)
    a = p.parse_args()
    g = lab.Graph(a.graph)
    with tempfile.TemporaryDirectory() as folder:
        solved = g.solve(range(-(-(g.steps - 1) // g.max_gap) + 1, g.steps), pathlib.Path(folder))
    print_growth(g)
    print_paths(g, solved)
    if a.output:
        judge(a, g, solved)


if __name__ == "__main__":
    main()
