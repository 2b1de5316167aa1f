#!/usr/bin/env python3
"""One HTML page, without network, from the folder of a sweep.

    python3 scripts/sweep_report.py DIR [-o report.html] [--clip N] [--frames 6] [--videos N]

Needs nothing beside Python; film strips and side-by-side videos (with `keep_clips` in the spec) need the ffmpeg command.
--clip: which prompt and seed (their number, 0) strips, videos, timelines and densities are of. --videos: how many settings get a
side-by-side mp4 in the page, those of the Pareto front first (4).
"""
import argparse
import base64
import html
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

COLORS = ["#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e", "#9498a0"]
STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --ink: #666; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; padding: 0 16px 48px; max-width: 1100px; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; } p, figcaption { color: var(--ink); }
.wide { overflow-x: auto; } svg { max-width: 100%; height: auto; display: block; } svg text { fill: currentColor; font-size: 12px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap; }
th, td { padding: 4px 10px; text-align: right; border-bottom: 1px solid var(--line); }
th { cursor: pointer; user-select: none; } th:first-child, td:first-child { text-align: left; }
tr.front td:first-child::before { content: "\\25C6 "; color: #4269d0; } tr:hover td { background: var(--soft); }
img.strip { width: 100%; min-width: 560px; display: block; image-rendering: auto; } figure { margin: 0 0 1.2em; }
video { width: 100%; max-width: 640px; }
.time { display: grid; grid-template-columns: minmax(90px, 220px) 1fr; gap: 3px 10px; align-items: center; }
.time > div:nth-child(odd) { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.steps { display: flex; gap: 1px; height: 16px; } .steps i { flex: 1; border-radius: 1px; }
.F { background: #4269d0; } .C { background: #efb11899; }
svg.plot { min-width: 600px; }
@media (max-width: 600px) { td:first-child { white-space: normal; overflow-wrap: anywhere; min-width: 120px; }
  body { font-size: 14px; padding: 0 10px 32px; } th, td { padding: 4px 6px; }
  .time { grid-template-columns: 1fr; } .time > div:nth-child(odd) { margin-top: 6px; } }
"""
SCRIPT = """
for (const th of document.querySelectorAll('th')) th.onclick = () => {
  const table = th.closest('table'), i = th.cellIndex, body = table.tBodies[0], up = th.dataset.up = th.dataset.up === '1' ? '0' : '1';
  const key = r => { const v = r.cells[i].dataset.v; return v === undefined ? r.cells[i].textContent : v === '' ? NaN : +v; };
  [...body.rows].sort((a, b) => { const x = key(a), y = key(b); if (x !== x) return 1; if (y !== y) return -1;
    return (x < y ? -1 : x > y ? 1 : 0) * (up === '1' ? 1 : -1); }).forEach(r => body.append(r));
};
"""


def esc(text):
    return html.escape(str(text), quote=True)


def load(folder):
    """Spec and rows of the settings in it; rows that an earlier spec left are passed over."""
    with open(os.path.join(folder, "sweep.json"), encoding="utf-8") as f:
        spec = json.load(f)
    clips = {(p, s) for p in spec["prompts"] for s in spec["seeds"]}
    labels = [s["label"] for s in spec["settings"]]
    rows = {label: [] for label in labels}
    with open(os.path.join(folder, "results.jsonl"), encoding="utf-8") as f:
        for line in f:
            if not line.endswith("\n"):
                break                                   # torn: the sweep runs it again
            row = json.loads(line)
            if row["label"] in rows and (row["prompt"], row["seed"]) in clips and row["repeat"] < spec["repeats"]:
                rows[row["label"]].append(row)
    return spec, rows


def quantile(values, q):
    values = sorted(values)
    at = q * (len(values) - 1)
    i = int(at)
    return values[i] if at == i or values[i] == values[i + 1] else values[i] + (at - i) * (values[i + 1] - values[i])


def metric(row, key):
    q = row.get("quality")
    if not q:
        return None
    if q["identical"]:
        return {"psnr": math.inf, "motion_psnr": math.inf, "ssim": q["ssim"], "ms_ssim": q["ms_ssim"], "latent_error": 0.0}[key]
    return q[key]


def summarize(label, rows):
    good = [r for r in rows if r["status"] == "ok"]
    s = {"label": label, "rows": len(rows), "failed": len(rows) - len(good), "good": good,
         "error": next((r["error"] for r in rows if r["status"] != "ok"), None)}
    seconds = [r["seconds"] for r in good]
    s["seconds"] = statistics.median(seconds) if seconds else None
    s["spread"] = (quantile(seconds, 0.75) - quantile(seconds, 0.25)) / 2 if seconds else None
    for key in ("psnr", "ssim", "ms_ssim", "motion_psnr", "latent_error"):
        values = [v for v in (metric(r, key) for r in good) if v is not None]
        s[key] = quantile(values, 0.5) if values else None
        s["worst_" + key] = (max if key == "latent_error" else min)(values) if values else None
    for key in ("computed_steps", "attention_density", "peak_memory_bytes"):
        values = [r[key] for r in good if r[key] is not None]
        s[key] = statistics.median(values) if values else None
    return s


def pareto(settings):
    """Settings that no other beats in both time and PSNR."""
    have = [s for s in settings if s["seconds"] is not None and s["psnr"] is not None]
    return [s for s in have if not any(o["seconds"] <= s["seconds"] and o["psnr"] >= s["psnr"] and
                                       (o["seconds"], o["psnr"]) != (s["seconds"], s["psnr"]) for o in have)]


# ---- the plot ----

def ticks(low, high, n=6):
    raw = (high - low) / n or 1
    unit = 10 ** math.floor(math.log10(raw))
    step = next(unit * m for m in (1, 2, 5, 10) if unit * m >= raw)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, int(math.floor(high / step + 1e-9)) + 1)]


def scatter(settings, front):
    points = [s for s in settings if s["seconds"] is not None and s["psnr"] is not None and math.isfinite(s["psnr"])]
    if not points:
        return "<p>No setting differs from the reference: there is nothing to plot.</p>"
    width, height, left, bottom, top, right = 860, 440, 52, 44, 16, 20
    ys = [s["psnr"] for s in points]
    pad = (max(ys) - min(ys)) * 0.08 or 1
    x0, x1, y0, y1 = 0, max(s["seconds"] + s["spread"] for s in settings if s["seconds"]) * 1.04, min(ys) - pad, max(ys) + pad
    X = lambda v: left + (v - x0) / (x1 - x0) * (width - left - right)
    Y = lambda v: height - bottom - (v - y0) / (y1 - y0) * (height - bottom - top)
    out = [f'<div class=wide><svg class=plot viewBox="0 0 {width} {height}" role="img" aria-label="quality over time">']
    for v in ticks(x0, x1):
        out.append(f'<path d="M{X(v):.1f} {top}V{height - bottom}" stroke="#8883"/><text x="{X(v):.1f}" y="{height - bottom + 16}" '
                   f'text-anchor="middle">{v:.4g}</text>')
    for v in ticks(y0, y1):
        out.append(f'<path d="M{left} {Y(v):.1f}H{width - right}" stroke="#8883"/><text x="{left - 6}" y="{Y(v) + 4:.1f}" '
                   f'text-anchor="end">{v:.4g}</text>')
    out.append(f'<text x="{width - right}" y="{height - 8}" text-anchor="end">seconds a clip (denoise + decode)</text>')
    out.append(f'<text x="{left}" y="{top - 4}">PSNR to the reference, dB</text>')
    exact = [s for s in settings if s["seconds"] and s["psnr"] == math.inf]
    for s in exact:
        out.append(f'<path d="M{X(s["seconds"]):.1f} {top}V{height - bottom}" stroke="#888" stroke-dasharray="4 4">'
                   f'<title>{esc(s["label"])}: identical, {s["seconds"]:.3f} s</title></path>')
    line = sorted((s for s in front if math.isfinite(s["psnr"])), key=lambda s: s["seconds"])
    out.append('<polyline fill="none" stroke="#4269d0" stroke-width="1.5" points="' +
               " ".join(f'{X(s["seconds"]):.1f},{Y(s["psnr"]):.1f}' for s in line) + '"/>')
    groups = []
    for s in points:
        group = s["group"]
        if group not in groups:
            groups.append(group)
        color = COLORS[groups.index(group) % len(COLORS)]
        x, y = X(s["seconds"]), Y(s["psnr"])
        out.append(f'<path d="M{X(max(x0, s["seconds"] - s["spread"])):.1f} {y:.1f}H{X(s["seconds"] + s["spread"]):.1f}" stroke="{color}" '
                   f'stroke-opacity=".6"/><circle cx="{x:.1f}" cy="{y:.1f}" r="{6 if s in front else 4.5}" fill="{color}" '
                   f'fill-opacity="{1 if s in front else .65}"><title>{esc(s["label"])}&#10;{s["seconds"]:.3f} s &#177; {s["spread"]:.3f}'
                   f'&#10;PSNR {s["psnr"]:.2f} dB, worst {s["worst_psnr"]:.2f}'
                   f'{"" if s["ssim"] is None else "&#10;SSIM %.4f" % s["ssim"]}</title></circle>')
    out.append("</svg></div><p>" + " ".join(f'<span style="color:{COLORS[i % len(COLORS)]}">&#9679;</span> {esc(g)}&ensp;'
                                      for i, g in enumerate(groups)) + "</p>")
    return "".join(out)


# ---- the table ----

COLUMNS = [("seconds", "seconds", "{:.3f}"), ("spread", "&#177;", "{:.3f}"), ("speedup", "speed-up", "{:.2f}"),
           ("computed_steps", "steps", "{:g}"), ("attention_density", "density", "{:.3f}"), ("psnr", "PSNR", "{:.2f}"),
           ("worst_psnr", "worst", "{:.2f}"), ("ssim", "SSIM", "{:.4f}"), ("ms_ssim", "MS-SSIM", "{:.4f}"),
           ("motion_psnr", "motion", "{:.2f}"), ("latent_error", "latent", "{:.4f}"),
           ("peak_memory_bytes", "MiB", "{:.0f}"), ("rows", "rows", "{:d}"), ("failed", "failed", "{:d}")]


def table(settings, front):
    columns = [c for c in COLUMNS if any(s[c[0]] is not None for s in settings)]
    out = ["<div class=wide><table><thead><tr><th>setting</th>", *(f"<th>{name}</th>" for _, name, _ in columns), "</tr></thead><tbody>"]
    for s in settings:
        out.append(f'<tr class="{"front" if s in front else ""}"><td>{esc(s["label"])}</td>')
        for key, _, form in columns:
            v = s[key]
            if key == "peak_memory_bytes" and v is not None:
                v /= 2 ** 20
            text = "" if v is None else "same" if v == math.inf else form.format(v)
            out.append(f'<td data-v="{"" if v is None else 1e9 if v == math.inf else v}">{text}</td>')
        out.append("</tr>")
    errors = "".join(f"<li>{esc(s['label'])}: {esc(s['error'])}</li>" for s in settings if s["error"])
    return "".join(out) + "</tbody></table></div>" + (f"<p>Failed rows:</p><ul>{errors}</ul>" if errors else "")


# ---- what happened inside ----

def row_of(setting, clip):
    rows = [r for r in setting["good"] if (r["prompt"], r["seed"]) == clip]
    return min(rows, key=lambda r: r["repeat"]) if rows else None


def timeline(settings, clip):
    out = ["<div class=time>"]
    for s in settings:
        row = row_of(s, clip)
        if not row:
            continue
        for b in row["branches"]:
            out.append(f'<div title="{esc(s["label"])}">{esc(s["label"])} <small>{b["branch"]}</small></div><div class=steps>')
            for i, letter in enumerate(b["decisions"]):
                diff = "" if b["diff"][i] is None else f', difference {b["diff"][i]:g}'
                what, why = "computed" if letter == "F" else "cached", esc(row["reasons"][b["why"][i]])
                out.append(f'<i class={letter} title="step {i}: {what}, {why}{diff}, {row["step_seconds"][i]:.4f} s"></i>')
            out.append("</div>")
    return "".join(out) + "</div>"


def heat(v):
    return "#8884" if v is None else f"hsl(221 70% {92 - 62 * min(max(v, 0), 1):.0f}%)"


def densities(settings, clip):
    """Steps across, layers down, of the first branch."""
    out = []
    for s in settings:
        row = row_of(s, clip)
        layers = row["branches"][0].get("density_layers") if row and row["branches"] else None
        if not layers:
            continue
        steps, depth, cell = len(layers), max(len(c) for c in layers), 14
        out.append(f'<figure><figcaption>{esc(s["label"])}</figcaption><div class=wide><svg width="{steps * cell}" height="{depth * cell}" '
                   f'viewBox="0 0 {steps * cell} {depth * cell}">')
        for x, column in enumerate(layers):
            for y, v in enumerate(column):
                value = "not run" if v is None else f"{v:.3f}"
                out.append(f'<rect x="{x * cell}" y="{y * cell}" width="{cell - 1}" height="{cell - 1}" fill="{heat(v)}">'
                           f'<title>step {x}, layer {y}: {value}</title></rect>')
        out.append("</svg></div></figure>")
    return "".join(out)


# ---- pictures ----

def ffmpeg(*arguments):
    return subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-y", *arguments], check=False, stderr=subprocess.DEVNULL).returncode == 0


def uri(path, kind):
    with open(path, "rb") as f:
        return f"data:{kind};base64," + base64.b64encode(f.read()).decode()


def strip(reference, clip, n_frames, shown, out):
    """Reference, clip and four times their difference around grey, one row each."""
    pick = "select='" + "+".join(f"eq(n\\,{round(i * (n_frames - 1) / max(shown - 1, 1))})" for i in range(shown)) + f"',tile={shown}x1"
    graph = (f"[0:v]format=gbrp,split[a][a2];[1:v]format=gbrp,split[b][b2];[a2][b2]blend=all_expr='clip(128+4*(B-A),0,255)',{pick}[d];"
             f"[a]{pick}[r];[b]{pick}[c];[r][c][d]vstack=inputs=3")
    return ffmpeg("-i", reference, "-i", clip, "-filter_complex", graph, "-frames:v", "1", out)


def side_by_side(reference, clip, label, out):
    """Both clips beside each other, their names above when this ffmpeg can draw text."""
    pad = "scale=iw*2:ih*2:flags=neighbor,pad=iw:ih+28:0:28:white"

    def text(t):
        safe = "".join(ch for ch in t if ch.isalnum() or ch in " =.,-_/")
        return f",drawtext=text='{safe}':x=6:y=7:fontsize=14:fontcolor=black"
    tail = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "20", "-movflags", "+faststart", out]
    for names in (True, False):
        a, b = (text("reference"), text(label)) if names else ("", "")
        graph = f"[0:v]{pad}{a}[a];[1:v]{pad}{b}[b];[a][b]hstack"
        if ffmpeg("-i", reference, "-i", clip, "-filter_complex", graph, *tail):
            return True
    return False


def frames_of(path):
    done = subprocess.run(["ffprobe", "-v", "error", "-count_frames", "-select_streams", "v", "-show_entries", "stream=nb_read_frames",
                           "-of", "csv=p=0", path], capture_output=True, text=True, check=False)
    return int(done.stdout.strip().rstrip(",") or 0) if done.returncode == 0 else 0


def pictures(folder, settings, front, clip, shown, videos):
    """Film strips of all settings, videos of some; empty without clips or ffmpeg."""
    reference = row_of(settings[0], clip)
    if not reference or not reference.get("clip") or not shutil.which("ffmpeg") or not shutil.which("ffprobe"):
        return "", ""
    ref = os.path.join(folder, reference["clip"])
    n = frames_of(ref)
    strips, films = [], []
    order = sorted(settings[1:], key=lambda s: s not in front)
    with tempfile.TemporaryDirectory() as tmp:
        for s in settings[1:]:
            row, out = row_of(s, clip), os.path.join(tmp, "strip.png")
            if row and row.get("clip") and n and strip(ref, os.path.join(folder, row["clip"]), n, min(shown, n), out):
                strips.append(f'<figure><figcaption>{esc(s["label"])}: reference, setting, difference x 4</figcaption><div class=wide>'
                              f'<img class=strip alt="film strip of {esc(s["label"])}" src="{uri(out, "image/png")}"></div></figure>')
        for s in order[:videos]:
            row, out = row_of(s, clip), os.path.join(tmp, "pair.mp4")
            if row and row.get("clip") and side_by_side(ref, os.path.join(folder, row["clip"]), s["label"], out):
                films.append(f'<figure><figcaption>reference | {esc(s["label"])}</figcaption><video controls loop muted playsinline '
                             f'src="{uri(out, "video/mp4")}"></video></figure>')
    return "".join(strips), "".join(films)


def build(folder, clip_index, shown, videos):
    spec, rows = load(folder)
    settings = [summarize(s["label"], rows[s["label"]]) for s in spec["settings"]]
    base = settings[0]["seconds"] if spec["has_reference"] else None
    for s, entry in zip(settings, spec["settings"]):
        s["speedup"] = base / s["seconds"] if base and s["seconds"] else None
        own = entry["settings"]
        parts = [own[k] for k in ("attention", "cache") if own.get(k) not in (None, "dense", "none")]
        s["group"] = " + ".join(parts) or "plain"
    front = pareto(settings)
    clips = [(p, s) for p in spec["prompts"] for s in spec["seeds"]]
    if not 0 <= clip_index < len(clips):
        raise SystemExit(f"sweep_report: --clip: {clip_index}: 0 to {len(clips) - 1} expected")
    clip = clips[clip_index]
    done, total = sum(s["rows"] for s in settings), len(settings) * len(clips) * spec["repeats"]
    part = [f"<h1>Sweep of {esc(spec['model'])}</h1><p>{esc(spec['description'])}</p><p>{len(settings)} settings, "
            f"{len(spec['prompts'])} prompts, {len(spec['seeds'])} seeds, {spec['repeats']} repeats: {done} of {total} rows. "
            f"praxino {esc(spec['praxino'])}, {esc(spec['isa'])}, {spec['cores']} cores.</p>"]
    if spec["has_reference"]:
        part.append("<h2>Quality and time</h2>" + scatter(settings, front))
    part.append("<h2>Settings</h2><p>Medians over prompts, seeds and repeats. &#9670;: nothing else is both faster and closer. "
                "A click on a heading sorts.</p>" + table(settings, front))
    where = f"<p>Prompt: {esc(clip[0])}; seed {clip[1]}.</p>"
    strips, films = pictures(folder, settings, front, clip, shown, videos) if spec["has_reference"] else ("", "")
    part += [f"<h2>{name}</h2>{where}{text}" for name, text in
             (("Frames", strips), ("Side by side", films), ("Steps: computed (blue) and cached (yellow)", timeline(settings, clip)),
              ("Attention density by layer (down) and step (across)", densities(settings, clip))) if text]
    return ("<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content=\"width=device-width, initial-scale=1\">"
            f"<title>Sweep of {esc(spec['model'])}</title><style>{STYLE}</style></head><body>" + "\n".join(part) +
            f"<script>{SCRIPT}</script></body></html>\n")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder")
    p.add_argument("-o", "--output")
    p.add_argument("--clip", type=int, default=0)
    p.add_argument("--frames", type=int, default=6)
    p.add_argument("--videos", type=int, default=4)
    a = p.parse_args()
    out = a.output or os.path.join(a.folder, "report.html")
    try:
        page = build(a.folder, a.clip, max(a.frames, 1), max(a.videos, 0))
        with open(out, "w", encoding="utf-8") as f:
            f.write(page)
    except (OSError, ValueError, KeyError) as error:
        print(f"sweep_report: {a.folder}: {error!r}", file=sys.stderr)
        return 1
    print(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
