"""Tables and plots of sweeps for docs/QUALITY.md: scripts/quality_page.py TITLE=FOLDER|FILE ... > docs/QUALITY.md

A FOLDER is what `praxino sweep -o FOLDER` left. For each a table (medians over clips, quartiles of the time), what each family of
settings gives at equal time, and docs/img/quality_NAME.png: PSNR over time, one line for each family, the Pareto front marked.
A FILE of Markdown, such as what scripts/lemica/ablation.py printed, is taken as it is.
"""
import json
import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402


def settings_of(folder):
    return json.loads((folder / "summary.json").read_text())["settings"]


def median(s, key):
    v = s.get(key)
    return v.get("median") if isinstance(v, dict) else v


def family(label):
    return label.split("=")[0].rsplit(" ", 1)[0].strip(" ,;:") if "=" in label else label


def is_front(s, every):
    """No other setting is both faster and better."""
    t, q = median(s, "seconds"), median(s, "psnr")
    return q is not None and not any(
        o is not s and median(o, "psnr") is not None and median(o, "seconds") <= t and median(o, "psnr") > q for o in every)


def plot(every, path, title):
    fig, ax = plt.subplots(figsize=(9, 5.5))
    groups = {}
    for s in every:
        if median(s, "psnr") is not None:
            groups.setdefault(family(s["label"]), []).append((median(s, "seconds"), median(s, "psnr")))
    for (name, points), mark in zip(groups.items(), "osv^D<>PX*hdp" * 3):
        points.sort()
        ax.plot(*zip(*points), marker=mark, label=name, linewidth=1, markersize=5)
    ax.set_xlabel("denoising and decoding, s (median)")
    ax.set_ylabel("PSNR against the reference, dB (median)")
    ax.set_title(title)
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8)
    fig.tight_layout()
    fig.savefig(path, dpi=90)
    plt.close(fig)


def cell(s, key, form):
    v = median(s, key)
    return "-" if v is None else form % v


def table(every):
    print("| setting | s (quartiles) | speed-up | computed steps | density | PSNR dB | worst clip | SSIM | latent error | front |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for s in every:
        t, q = s["seconds"], s.get("psnr") or {}
        worst = q.get("worst")
        print("| %s | %.2f (%.2f-%.2f) | %s | %s | %s | %s | %s | %s | %s | %s |" % (
            s["label"], t["median"], t["low"], t["high"], cell(s, "speedup", "%.2f"), cell(s, "computed_steps", "%.0f"),
            cell(s, "attention_density", "%.2f"), cell(s, "psnr", "%.1f"), "-" if worst is None else "%.1f" % worst,
            cell(s, "ssim", "%.3f"), cell(s, "latent_error", "%.3f"), "yes" if is_front(s, every) else ""))


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
        return
    speeds, groups = (1.25, 1.5, 1.75, 2.0, 2.5, 3.0), {}
    for s in every:
        if median(s, "psnr") is not None:
            groups.setdefault(family(s["label"]), []).append((median(s, "seconds"), median(s, "psnr")))
    rows = {name: [at_time(points, full / x) for x in speeds] for name, points in groups.items() if len(points) > 1}
    best = [max((r[k] for r in rows.values() if r[k] is not None), default=None) for k in range(len(speeds))]
    print("\nPSNR at equal time, between the settings of a family (dB):\n")
    print("| family | " + " | ".join("%.2f x" % x for x in speeds) + " |\n|---|" + "---|" * len(speeds))
    for name, row in rows.items():
        cells = ["-" if v is None else ("**%.1f**" if v == b else "%.1f") % v for v, b in zip(row, best)]
        print("| %s | %s |" % (name, " | ".join(cells)))


def main():
    if len(sys.argv) < 2 or any("=" not in a for a in sys.argv[1:]):
        sys.exit(__doc__)
    for a in sys.argv[1:]:
        title, folder = a.split("=", 1)
        folder = pathlib.Path(folder)
        if folder.is_file():
            print("\n## %s\n\n%s" % (title, folder.read_text().rstrip()))
            continue
        every, spec = settings_of(folder), json.loads((folder / "sweep.json").read_text())
        image = pathlib.Path("docs/img/quality_%s.png" % folder.name)
        plot(every, image, title)
        print("\n## %s\n" % title)
        print("%s. %d prompts, %d seeds, base %s; %s.\n" % (
            spec["description"].rstrip("."), len(spec["prompts"]), len(spec["seeds"]),
            ", ".join("%s %s" % i for i in spec["base"].items()), "`praxino sweep configs/sweeps/%s.json`" % folder.name))
        print("![%s](img/%s)\n" % (title, image.name))
        table(every)
        equal_time(every)


if __name__ == "__main__":
    main()
