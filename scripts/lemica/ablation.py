"""The published ablation of LeMiCa on a model: minimax beside shortest-sum, a graph of one prompt beside one of many.

    scripts/lemica/ablation.py [--model models/tiny] [--many GRAPH] [--budgets 6,8,10,12] [--prompts 20] -o OUT

GRAPH is the model's own, MODEL/lemica_graph.json. One of its first prompt alone is measured to OUT/one.json, both objectives are solved on
both, and the prompts of --test, which no graph saw, are rendered under every schedule and with as many plain steps, each against the
uncached clip of its seed, by `praxino sweep`. Interrupted, the same command goes on. OUT/ablation.json and a table: means over the clips of
PSNR, SSIM and the relative error of the last latents, the worst clip's PSNR, the mean time.
"""
import argparse
import json
import pathlib
import sys

import lab


def one_prompt(graph, model, out):
    """The graph of the first prompt, with the settings of the whole one."""
    file, s = out / "one.json", graph.file["settings"]
    if file.exists() and json.loads(file.read_text())["settings"]["prompts"] != s["prompts"][:1]:
        sys.exit(f"ablation: {file} is of another prompt; remove it")
    if not file.exists():
        text = out / "one.txt"
        text.write_text(s["prompts"][0] + "\n")
        lab.praxino("schedule", "build", "-m", model, "--prompts", text, "--seeds", s["seeds"][0], "--dtype", s["dtype"], "--steps",
                    graph.steps, "--max-gap", graph.max_gap, "--reuse", s["reuse"], "-o", file)
    return lab.Graph(file)


def variants(graphs, budgets, out):
    """Entries of a sweep: every schedule once, with the names that lead to it, and plain runs."""
    names, paths = {}, {}
    for kind, graph in graphs.items():
        for budget, both in graph.solve(budgets, out / "solved").items():
            for objective, path in both.items():
                names[budget, f"{objective}, {kind}"] = tuple(path)
                paths[tuple(path)] = graph
    labels = {path: "computed " + " ".join(map(str, path)) for path in paths}
    settings = [{"label": labels[p], "cache": "lemica", "schedule": str(g.schedule(p, out / "schedules"))} for p, g in paths.items()]
    settings += [{"label": f"{b} steps", "steps": b} for b in budgets]
    runs = {key: labels[path] for key, path in names.items()} | {(b, "fewer steps"): f"{b} steps" for b in budgets}
    return settings, runs


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", type=pathlib.Path, default=pathlib.Path("models/tiny"))
    p.add_argument("--many", type=pathlib.Path, help="graph of many prompts (MODEL/lemica_graph.json)")
    p.add_argument("--budgets", type=lambda s: [int(x) for x in s.split(",")], default=[6, 8, 10, 12])
    p.add_argument("--test", type=pathlib.Path, default=pathlib.Path("scripts/lemica/test.txt"))
    p.add_argument("--prompts", type=int, default=20, help="how many of them")
    p.add_argument("-o", "--output", type=pathlib.Path, required=True)
    a = p.parse_args()
    out = a.output
    out.mkdir(parents=True, exist_ok=True)
    many = lab.Graph(a.many or a.model / "lemica_graph.json")
    seen, test = many.file["settings"]["prompts"], lab.lines(a.test)[:a.prompts]
    if set(test) & set(seen):
        sys.exit("ablation: a prompt of --test is one that the graph was measured on")
    graphs = {"one prompt": one_prompt(many, a.model, out), f"{len(seen)} prompts": many}
    settings, runs = variants(graphs, a.budgets, out)
    rows = lab.sweep(out / "sweep", a.model, test, [1000], {"steps": many.steps}, settings, "LeMiCa: objective and number of prompts")
    table = []
    for (budget, name), label in sorted(runs.items(), key=lambda r: r[0][0]):
        r = rows[label]
        table.append({"budget": budget, "schedule": name, "runs": label, "clips": len(r), "psnr": lab.mean(map(lab.psnr, r)),
                      "worst_psnr": min(map(lab.psnr, r)), "ssim": lab.mean(x["quality"]["ssim"] for x in r),
                      "latent_error": lab.mean(x["quality"]["latent_error"] for x in r), "seconds": lab.mean(x["seconds"] for x in r)})
    (out / "ablation.json").write_text(json.dumps(table, indent=1) + "\n")
    print("| budget | schedule | PSNR | worst | SSIM | latent error | seconds |\n|---|---|---|---|---|---|---|")
    for r in table:
        print("| %d | %s | %.2f | %.2f | %.4f | %.4f | %.3f |" % (r["budget"], r["schedule"], r["psnr"], r["worst_psnr"], r["ssim"],
                                                              r["latent_error"], r["seconds"]))


if __name__ == "__main__":
    main()
