"""Tables and pictures of sweeps in docs/QUALITY.md: scripts/quality_page.py TITLE=FOLDER|FILE ... [--page docs/QUALITY.md]

A FOLDER is what `praxino sweep -o FOLDER` left; its name is the section's: what stands between its two marks is replaced, a new
section goes to the end. Each has the fastest settings for a few targets, what each family gives at equal time, a table of all
(medians over clips, quartiles of the time), docs/img/quality_NAME.png (PSNR over time, a line for each family), where rows were
probed (`attention.probe`) what sparse attention keeps by layer with docs/img/quality_NAME_recall.png, and where the sweep kept its
clips and there is an ffmpeg command docs/img/quality_NAME_strip.jpg: frames of one clip under the reference's. A FILE of Markdown,
such as what scripts/lemica/ablation.py printed, is taken as it is.
"""
import argparse
import json
import math
import pathlib
import shutil
import subprocess

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402

TARGETS = (28, 32, 36, 40)
AXES = {"steps": ("steps", "scheduler"), "cache": ("cache",), "attention": ("attention",)}


# ---- numbers ----

def median(s, key):
    v = s.get(key)
    return v.get("median") if isinstance(v, dict) else v


def t_share(t, degrees):
    """P(T <= t) of Student's distribution, by Simpson's rule."""
    c = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(degrees * math.pi)
    x = np.linspace(0, t, 2001)
    y = c * (1 + x * x / degrees) ** (-(degrees + 1) / 2)
    return 0.5 + t / 6000 * (y[0] + y[-1] + 4 * y[1:-1:2].sum() + 2 * y[2:-1:2].sum())


def t_quantile(p, degrees):
    low, high = 0.0, 1000.0
    for _ in range(60):
        mid = (low + high) / 2
        low, high = (mid, high) if t_share(mid, degrees) < p else (low, mid)
    return low


def bound(rows):
    """Lower 90 % confidence bound of the mean PSNR over the clips, identical ones at 60 dB: what `praxino tune` holds to its target."""
    values = [60.0 if r["quality"]["identical"] else min(r["quality"]["psnr"], 60.0) for r in rows if r.get("quality") and r["repeat"] == 0]
    if len(values) < 2:
        return -math.inf
    sd = math.sqrt(sum((v - sum(values) / len(values)) ** 2 for v in values) / (len(values) - 1))
    return sum(values) / len(values) - t_quantile(0.9, len(values) - 1) * sd / math.sqrt(len(values))


def rows_of(folder):
    by = {}
    for line in (folder / "results.jsonl").read_text().splitlines():
        row = json.loads(line)
        if row["status"] == "ok":
            by.setdefault(row["label"], []).append(row)
    return by


def axes_of(row, reference):
    """How many of steps, cache and attention differ from the reference."""
    return sum(any(row["settings"].get(k) != reference["settings"].get(k) for k in keys) for keys in AXES.values())


def family(label):
    return label.split("=")[0].rsplit(" ", 1)[0].strip(" ,;:") if "=" in label else label


def is_front(s, every):
    """No other setting is both faster and better."""
    t, q = median(s, "seconds"), median(s, "psnr")
    return q is not None and not any(
        o is not s and median(o, "psnr") is not None and median(o, "seconds") <= t and median(o, "psnr") > q for o in every)


# ---- pictures ----

def plot(every, path, title):
    fig, ax = plt.subplots(figsize=(9, 6))
    groups = {}
    for s in every:
        if median(s, "psnr") is not None:
            groups.setdefault(family(s["label"]), []).append((median(s, "seconds"), median(s, "psnr")))
    for (name, points), mark in zip(groups.items(), "osv^D<>PX*hdp" * 3):
        points.sort()
        ax.plot(*zip(*points), marker=mark, label=name, linewidth=1, markersize=5)
    front = sorted((median(s, "seconds"), median(s, "psnr")) for s in every if is_front(s, every))
    if front:
        ax.step(*zip(*front), where="post", color="black", linewidth=1.5, alpha=0.5, label="front")
    ax.set_xlabel("denoising and decoding, s (median)")
    ax.set_ylabel("PSNR against the reference, dB (median)")
    ax.set_title(title)
    ax.grid(alpha=0.3)
    ax.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.01, 1))
    fig.savefig(path, dpi=80, bbox_inches="tight")
    plt.close(fig)


def frames(path, count, size):
    """`count` frames of a video, evenly spaced, as [count, size, size, 3]."""
    raw = subprocess.run(["ffmpeg", "-v", "error", "-i", path, "-vf", f"scale={size}:{size}", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"],
                         stdout=subprocess.PIPE, check=True).stdout
    every = np.frombuffer(raw, np.uint8).reshape(-1, size, size, 3)
    return every[np.linspace(0, len(every) - 1, count).round().astype(int)]


def strip(folder, every, by, path, count=7, size=88):
    """The reference's frames and, below, those of settings along the front; the first prompt. Returns the labels, top to bottom."""
    front = sorted((s for s in every if is_front(s, every)), key=lambda s: -median(s, "psnr"))
    chosen = [front[round(i * (len(front) - 1) / 4)] for i in range(5)] if len(front) > 5 else front
    prompt = by["reference"][0]["prompt"] if "reference" in by else None
    labels = []
    for label in ["reference"] + [s["label"] for s in chosen]:
        row = next((r for r in by.get(label, []) if r["prompt"] == prompt and r.get("clip")), None)
        if row:
            labels.append((label, row, frames(folder / row["clip"], count, size)))
    if len(labels) < 2:
        return prompt, []
    picture = np.concatenate([np.concatenate(list(f), axis=1) for _, _, f in labels])
    plt.imsave(path, picture, pil_kwargs={"quality": 85})
    return prompt, [(label, row) for label, row, _ in labels]


# ---- what sparse attention keeps ----

def by_layer(rows, key):
    """Means over clips, branches and steps for each layer, of calls that were probed; NaN for a layer that never was."""
    values = []
    for branch in (b for r in rows for b in r["branches"] if "recall_layers" in b):
        values += [[v if probed is not None else None for v, probed in zip(of, recall)]
                   for of, recall in zip(branch[key], branch["recall_layers"]) if recall]
    table = np.array(values, float)
    seen = np.isfinite(table)
    return np.where(seen.any(0), np.where(seen, table, 0).sum(0) / np.maximum(seen.sum(0), 1), np.nan)


def plot_recall(kept, path):
    """A panel for each policy: lines with marks are recall, dotted ones of the same colour the share of pairs it takes."""
    policies = list(dict.fromkeys(k["policy"] for k in kept))
    fig, axes = plt.subplots(1, len(policies), figsize=(5 * len(policies), 4), sharey=True, squeeze=False)
    for ax, policy in zip(axes[0], policies):
        for k, mark in zip((k for k in kept if k["policy"] == policy), "osv^D<>PX*hdp" * 3):
            layers = np.arange(len(k["recall"]))
            line, = ax.plot(layers, k["recall"], marker=mark, label=k["short"], linewidth=1, markersize=5)
            ax.plot(layers, k["density"], linestyle=":", color=line.get_color(), linewidth=1.5)
        ax.set_title(f"{policy}: recall; dotted: density")
        ax.set_xlabel("layer")
        ax.set_xticks(layers)
        ax.set_ylim(0, 1.02)
        ax.grid(alpha=0.3)
        ax.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.14))
    axes[0][0].set_ylabel("share of the softmax mass, of the pairs")
    fig.savefig(path, dpi=80, bbox_inches="tight")
    plt.close(fig)


def recall(every, by, path):
    kept = []
    for s in every:
        rows = [r for r in by.get(s["label"], []) if any("recall_layers" in b for b in r["branches"])]
        if rows:
            policy = rows[0]["settings"]["attention"]
            short = s["label"].removeprefix(policy).replace("attention.", "").strip()
            kept.append({"label": s["label"], "policy": policy, "short": short}
                        | {n: by_layer(rows, f"{n}_layers") for n in ("recall", "density", "error")})
    if not kept:
        return []
    plot_recall(kept, path)
    depth = max(len(k["recall"]) for k in kept)
    out = ["", "Recall by layer: the share of the softmax mass that the kept pairs have, on sampled queries, mean over clips, "
           "branches and sparse steps; in brackets the share of pairs; at the end the distance of the output from dense attention's "
           "over its length, mean over layers.", "",
           "| setting | " + " | ".join(f"layer {i}" for i in range(depth)) + " | output error |", "|---|" + "---|" * (depth + 1)]
    for k in kept:
        cells = ["-" if math.isnan(v) else "%.3f (%.2f)" % (v, d) for v, d in zip(k["recall"], k["density"])]
        out.append("| %s | %s | %.3f |" % (k["label"], " | ".join(cells), np.nanmean(k["error"])))
    return out + ["", f"![recall by layer](img/{path.name})"]


# ---- text ----

def cell(s, key, form):
    v = median(s, key)
    return "-" if v is None else form % v


def target_table(every, by):
    reference = by["reference"][0]
    out = ["| PSNR held | one method | speed-up | several together | speed-up |", "|---|---|---|---|---|"]
    for target in TARGETS:
        cells = []
        for alone in (True, False):
            fit = [s for s in every if s["label"] in by and s["label"] != "reference" and bound(by[s["label"]]) >= target
                   and (axes_of(by[s["label"]][0], reference) == 1) == alone]
            best = min(fit, key=lambda s: median(s, "seconds"), default=None)
            cells += [best["label"], cell(best, "speedup", "%.2f")] if best else ["-", "-"]
        out.append("| %d dB | %s | %s | %s | %s |" % (target, *cells))
    return out


def at_time(points, seconds):
    """PSNR of a family at this time, between its neighbours on its own front; None outside of its times."""
    points = sorted(points)
    front = [p for i, p in enumerate(points) if all(q[1] < p[1] for q in points[:i])]
    for (t0, q0), (t1, q1) in zip(front, front[1:]):
        if t0 <= seconds <= t1:
            return q0 + (q1 - q0) * (seconds - t0) / (t1 - t0)
    return None


def equal_time(every):
    """A row a family, a column a speed-up; the best of each column in bold."""
    full = next((median(s, "seconds") for s in every if s["label"] == "reference"), None)
    if not full:
        return []
    speeds, groups = (1.25, 1.5, 1.75, 2.0, 2.5, 3.0), {}
    for s in every:
        if median(s, "psnr") is not None:
            groups.setdefault(family(s["label"]), []).append((median(s, "seconds"), median(s, "psnr")))
    rows = {name: [at_time(points, full / x) for x in speeds] for name, points in groups.items() if len(points) > 1}
    if not rows:
        return []
    best = [max((r[k] for r in rows.values() if r[k] is not None), default=None) for k in range(len(speeds))]
    out = ["", "PSNR at equal time, between the settings of a family (dB):", "",
           "| family | " + " | ".join("%.2f x" % x for x in speeds) + " |", "|---|" + "---|" * len(speeds)]
    for name, row in rows.items():
        cells = ["-" if v is None else ("**%.1f**" if v == b else "%.1f") % v for v, b in zip(row, best)]
        out.append("| %s | %s |" % (name, " | ".join(cells)))
    return out


def full_table(every):
    out = ["| setting | s (quartiles) | speed-up | computed steps | density | PSNR dB | worst clip | SSIM | latent error | front |",
           "|---|---|---|---|---|---|---|---|---|---|"]
    for s in every:
        t, worst = s["seconds"], (s.get("psnr") or {}).get("worst")
        out.append("| %s | %.2f (%.2f-%.2f) | %s | %s | %s | %s | %s | %s | %s | %s |" % (
            s["label"], t["median"], t["low"], t["high"], cell(s, "speedup", "%.2f"), cell(s, "computed_steps", "%.0f"),
            cell(s, "attention_density", "%.2f"), cell(s, "psnr", "%.1f"), "-" if worst is None else "%.1f" % worst,
            cell(s, "ssim", "%.3f"), cell(s, "latent_error", "%.3f"), "yes" if is_front(s, every) else ""))
    return out


def section(title, folder, images):
    every = [s for s in json.loads((folder / "summary.json").read_text())["settings"] if median(s, "seconds") is not None]
    spec, by = json.loads((folder / "sweep.json").read_text()), rows_of(folder)
    plot(every, images / f"quality_{folder.name}.png", title)
    out = [f"## {title}", "", "%s. %d settings, %d prompts, %d seeds, base %s; `praxino sweep configs/sweeps/%s.json -o %s`." % (
        spec["description"].rstrip("."), len(every), len(spec["prompts"]), len(spec["seeds"]),
        ", ".join("%s %s" % i for i in spec["base"].items()), folder.name, folder.name), "",
        f"![{title}](img/quality_{folder.name}.png)", ""]
    if shutil.which("ffmpeg"):
        path = images / f"quality_{folder.name}_strip.jpg"
        prompt, shown = strip(folder, every, by, path)
        names = "; ".join(label if r["quality"]["identical"] else "%s (%.1f dB)" % (label, r["quality"]["psnr"]) for label, r in shown)
        out += [f"![frames of one clip](img/{path.name})", "", f"'{prompt}', top to bottom: {names}.", ""] if shown else []
    if "reference" in by:
        out += ["The fastest settings whose mean PSNR over the prompts is at the target or above, by the lower 90 % confidence bound "
                "that `praxino tune` uses:", ""] + target_table(every, by) + [""]
    kept = recall(every, by, images / f"quality_{folder.name}_recall.png")
    return "\n".join(out + full_table(every) + equal_time(every) + kept) + "\n"


def put(page, name, text):
    """Between the section's marks, or at the end."""
    begin, end = f"<!-- sweep {name} -->\n", f"<!-- end {name} -->\n"
    text = begin + text + end
    if begin in page and end in page:
        return page[:page.index(begin)] + text + page[page.index(end) + len(end):]
    return page.rstrip("\n") + "\n\n" + text


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("sweeps", nargs="+", metavar="TITLE=FOLDER|FILE")
    p.add_argument("--page", type=pathlib.Path, default=pathlib.Path("docs/QUALITY.md"))
    a = p.parse_args()
    images = a.page.parent / "img"
    images.mkdir(parents=True, exist_ok=True)
    page = a.page.read_text() if a.page.exists() else ""
    page = page if page.strip() else "# Quality and speed\n"
    for word in a.sweeps:
        title, equals, folder = word.partition("=")
        if not equals:
            p.error(f"{word}: TITLE=FOLDER expected")
        folder = pathlib.Path(folder)
        text = f"## {title}\n\n{folder.read_text().rstrip()}\n" if folder.is_file() else section(title, folder, images)
        page = put(page, folder.stem, text)
    a.page.write_text(page)


if __name__ == "__main__":
    main()
