"""Tables and plots of sweeps for docs/QUALITY.md: scripts/quality_page.py TITLE=FOLDER ... > docs/QUALITY.md

A FOLDER is what `praxino sweep -o FOLDER` left. For each a table (medians over clips, quartiles of the time) and
docs/img/quality_NAME.png: PSNR over time, one line for each label's family, the Pareto front marked.
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


def main():
    if len(sys.argv) < 2 or any("=" not in a for a in sys.argv[1:]):
        sys.exit(__doc__)
    for a in sys.argv[1:]:
        title, folder = a.split("=", 1)
        folder = pathlib.Path(folder)
        every, spec = settings_of(folder), json.loads((folder / "sweep.json").read_text())
        image = pathlib.Path("docs/img/quality_%s.png" % folder.name)
        plot(every, image, title)
        print("\n## %s\n" % title)
        print("%s. %d prompts, %d seeds, base %s; %s.\n" % (
            spec["description"].rstrip("."), len(spec["prompts"]), len(spec["seeds"]),
            ", ".join("%s %s" % i for i in spec["base"].items()), "`praxino sweep configs/sweeps/%s.json`" % folder.name))
        print("![%s](img/%s)\n" % (title, image.name))
        table(every)


if __name__ == "__main__":
    main()
