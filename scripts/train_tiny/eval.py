"""Renders held-out prompts and measures from pixels whether colour, background, shape and motion are what was asked.

  eval.py --engine praxino   [--model models/tiny] [--n 224] [--command ./praxino]
  eval.py --engine diffusers [--n 224] [--batch 8]
  eval.py --engine vae       drawn clips that only went through the autoencoder
  eval.py --truth            measures drawn clips instead: the accuracy of the measuring itself

Writes a table, OUT/results.json, and a contact sheet OUT/sheet.png. The prompts are single-object combinations that
clips.held_out keeps from the training, in the plainest wording (or --paraphrase).
"""
import argparse
import json
import os
import subprocess
import time

import numpy as np
from scipy import ndimage

import clips
from clips import BACKGROUNDS, COLOURS, FLOORS, MOTIONS, ROUND, SHAPES


def prompts(n, seed=1):
    """n held-out combinations, balanced over motions, colours, shapes and backgrounds."""
    rng = np.random.default_rng(seed)
    every = [(c, s, b, m) for c in COLOURS for s in SHAPES for b in BACKGROUNDS for m in MOTIONS
             if clips.held_out(c, s, b, m) and not (m == "spin" and s in ROUND)
             and (c, b) not in {("blue", "blue floor"), ("green", "grass")}]
    rng.shuffle(every)
    every = [tuple(e) for e in every]
    count, chosen = {}, []
    while len(chosen) < n:
        best = min(every, key=lambda e: sum(count.get(k, 0) for k in enumerate(e)) + 4 * count.get((3, e[3]), 0))
        every.remove(best)
        chosen.append(best)
        for k in enumerate(best):
            count[k] = count.get(k, 0) + 1
    return chosen


# ------------------------------------------------------------------------------------------------- measurements
def classify_background(clip):
    """By the colours of the upper and lower edge region and their texture, against the drawn backdrops."""
    ref = classify_background.ref
    if not ref:
        for b in BACKGROUNDS:
            for k in range(4):
                spec = dict(bg=b, bg_p=[0.26 * k, 0.13 + 0.2 * k], horizon=0.52 + 0.04 * k, objects=[])
                ref.append((b, _bg_features(clips.background(spec)[None])))
    f = _bg_features(clip)
    return min(ref, key=lambda r: float(np.abs(r[1] - f).sum()))[0]


classify_background.ref = []


def _bg_features(clip):
    still = np.median(np.asarray(clip, np.float32), 0)  # a moving object vanishes in the median over time
    top, low = still[4:40], still[108:124]
    side = np.concatenate([still[:, 2:8].reshape(-1, 3), still[:, -8:-2].reshape(-1, 3)])
    return np.concatenate([np.median(top, (0, 1)), np.median(low, (0, 1)), [0.7 * side[:, 1].std()]])


def foreground(clip):
    """Per frame the pixels that look like an object: strongly coloured, and unlike the clip's own backdrop there."""
    clip = np.asarray(clip, np.float32)
    bg = classify_background(clip)
    still = np.median(clip, 0)
    # the backdrop is constant along x (up to texture): take each row's median near the edges, per frame of the median
    if bg == "checker":
        d = clip.max(-1) - clip.min(-1)
        return d > 60
    row = np.median(np.concatenate([still[:, :14], still[:, -14:]], 1), 1)[None, :, None]
    if bg in ("white", "black", "grey"):
        row = np.median(row, 1, keepdims=True)
    diff = np.abs(clip - row).max(-1)
    chroma = clip.max(-1) - clip.min(-1)
    hue_far = _hue_distance(clip, row)
    if bg in ("white", "black", "grey"):
        return (diff > 50) & (chroma > 45)
    # shadows keep the floor's colour direction, objects do not
    return (diff > 50) & (hue_far > 0.16) & (chroma > 30)


def _hue_distance(a, b):
    na = a / (np.linalg.norm(a, axis=-1, keepdims=True) + 20)
    nb = b / (np.linalg.norm(b, axis=-1, keepdims=True) + 20)
    return np.linalg.norm(na - nb, axis=-1)


def largest(mask):
    lab, n = ndimage.label(ndimage.binary_opening(mask, iterations=1) | (mask if mask.sum() < 60 else False))
    if n == 0:
        return None
    sizes = ndimage.sum(mask, lab, np.arange(1, n + 1))
    k = int(np.argmax(sizes))
    return (lab == k + 1) if sizes[k] >= 12 else None


def classify_colour(clip, masks, strong):
    votes = {}
    names, table = list(COLOURS), np.array(list(COLOURS.values()), np.float32)
    for f in strong:
        px = np.asarray(clip[f], np.float32)[ndimage.binary_erosion(masks[f]) if masks[f].sum() > 80 else masks[f]]
        if len(px) == 0:
            continue
        med = np.median(px, 0)
        a = table / np.linalg.norm(table, axis=1, keepdims=True)
        cost = np.linalg.norm(a - med / (np.linalg.norm(med) + 1e-6), axis=1) + 0.0022 * np.abs(table - med).max(1)
        votes[names[int(np.argmin(cost))]] = votes.get(names[int(np.argmin(cost))], 0) + 1
    return max(votes, key=votes.get) if votes else None


def _normal(mask, size=32):
    """A mask brought to a common frame: centroid in the middle, area fixed, no rotation."""
    y, x = np.nonzero(mask)
    r = np.sqrt(mask.sum() / np.pi)
    g = (np.arange(size) + 0.5) / size * 4.4 - 2.2
    gx, gy = np.meshgrid(g * r + x.mean(), g * r + y.mean())
    return ndimage.map_coordinates(mask.astype(np.float32), [gy, gx], order=1)


def shape_templates():
    out = []
    for s in SHAPES:
        for a in [0] if s in ROUND else np.arange(0, 360, 10):
            img = np.zeros((96, 96, 3), np.float32)
            clips._blit(img, s, 48, 48, 26, np.deg2rad(a), (255, 255, 255), 1.0, False)
            out.append((s, a, _normal(img[..., 0] > 127)))
    return out


def classify_shape(masks, frames, spinning):
    classify_shape.t = getattr(classify_shape, "t", None) or shape_templates()
    score = {s: 0.0 for s in SHAPES}
    for f in frames:
        m = _normal(masks[f])
        best = {}
        for s, a, t in classify_shape.t:
            if not spinning and a not in (0,):
                continue  # upright unless a turn was asked for
            d = float(np.abs(m - t).mean())
            best[s] = min(best.get(s, 9), d)
        for s, d in best.items():
            score[s] += d
    return min(score, key=score.get)


def classify_motion(clip, masks, areas, xs, ys):
    """From the object's path, size and strength over time."""
    ok = [f for f in range(len(masks)) if masks[f] is not None]
    if len(ok) < 5:
        return None
    x, y, area = np.array([xs[f] for f in ok]), np.array([ys[f] for f in ok]), np.array([areas[f] for f in ok], float)
    n = len(ok)
    k = max(1, n // 8)
    dx, dy = x[-k:].mean() - x[:k].mean(), y[-k:].mean() - y[:k].mean()
    path_y = np.abs(np.diff(ndimage.uniform_filter1d(y, 3))).sum()
    span_y = y.max() - y.min()
    growth = np.sqrt(area[-k:].mean() / area[:k].mean())
    strength = _strength(clip, masks, ok)
    if ok[-1] < len(masks) - 3 or strength < 0.55:
        return "fade" if strength < 0.8 else None
    if growth > 1.5:
        return "grow"
    if growth < 0.66:
        return "shrink"
    if span_y > 16 and path_y > 1.55 * abs(dy) + 14 and abs(dx) < 22:
        return "bounce"
    side = ("left" if dx < 0 else "right") if abs(dx) > 12 else ""
    vert = ("up" if dy < 0 else "down") if abs(dy) > 12 else ""
    if side and vert and min(abs(dx), abs(dy)) < 0.27 * max(abs(dx), abs(dy)):
        side, vert = (side, "") if abs(dx) > abs(dy) else ("", vert)
    if side or vert:
        return (vert + " " + side).strip()
    return "spin" if _turns(masks, ok) else "still"


def _strength(clip, masks, ok):
    """Contrast of the object against its surroundings, last frames over first."""
    def contrast(f):
        m = ndimage.binary_erosion(masks[f]) if masks[f].sum() > 80 else masks[f]
        ring = ndimage.binary_dilation(masks[f], iterations=5) & ~ndimage.binary_dilation(masks[f], iterations=2)
        c = np.asarray(clip[f], np.float32)
        return np.abs(np.median(c[m], 0) - np.median(c[ring], 0)).max() + 1
    k = max(1, len(ok) // 8)
    return np.mean([contrast(f) for f in ok[-k:]]) / np.mean([contrast(f) for f in ok[:k]])


def _turns(masks, ok):
    """Does the outline change as by a rotation: overlap of the centred masks of first and later frames."""
    first = _normal(masks[ok[0]])
    change = [np.abs(_normal(masks[f]) - first).sum() / first.sum() for f in ok]
    return np.percentile(change, 85) > 0.2


def measure(clip, asked=None):
    """What is seen in a clip [T,H,W,3] uint8. `asked` only tells whether to try rotated templates."""
    bg = classify_background(clip)
    fg = foreground(clip)
    masks = [largest(m) for m in fg]
    areas = [0 if m is None else int(m.sum()) for m in masks]
    if max(areas) < 20:
        return dict(colour=None, shape=None, background=bg, motion=None)
    cen = [ndimage.center_of_mass(m) if m is not None else (np.nan, np.nan) for m in masks]
    ys, xs = [c[0] for c in cen], [c[1] for c in cen]
    motion = classify_motion(clip, masks, areas, xs, ys)
    inside = []
    for f, m in enumerate(masks):  # frames that show the whole object
        if m is not None:
            y, x = np.nonzero(m)
            if x.min() > 1 and y.min() > 1 and x.max() < clips.SIZE - 2 and y.max() < clips.SIZE - 2:
                inside.append(f)
    inside = inside or [int(np.argmax(areas))]
    order = sorted(inside, key=lambda f: -areas[f])
    strong = [f for f in order if f <= len(clip) // 2][:8] or order[:8]  # early frames: before anything has faded
    if motion == "grow":
        strong = order[:8]
    return dict(colour=classify_colour(clip, masks, strong), shape=classify_shape(masks, strong, motion == "spin"),
                background=bg, motion=motion)


# ------------------------------------------------------------------------------------------------------ engines
def render_truth(combos, a):
    for i, (c, s, b, m) in enumerate(combos):
        yield clips.draw(clips.spec_single(np.random.default_rng(i), c, s, b, m))


def render_vae(combos, a):
    """Drawn clips that went through encoder and decoder: what the autoencoder alone loses."""
    import torch
    import train_dit
    import train_vae
    torch.set_num_threads(a.threads)
    vae = train_dit.load_vae(None, a.model)
    for clip in render_truth(combos, a):
        x = torch.from_numpy(clip.transpose(3, 0, 1, 2).copy())[None].float() / 127.5 - 1
        with torch.no_grad():
            y = train_vae.decode(vae, train_vae.encode(vae, x)[0])[0].clamp(-1, 1)
        yield ((y + 1) * 127.5).byte().permute(1, 2, 3, 0).numpy()


def render_diffusers(combos, texts, a):
    import torch
    from diffusers import WanPipeline
    torch.set_num_threads(a.threads)
    pipe = WanPipeline.from_pretrained(a.model, torch_dtype=torch.float32, local_files_only=True)
    if a.shift:
        pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, flow_shift=a.shift)
    pipe.set_progress_bar_config(disable=True)
    for i in range(0, len(texts), a.batch):
        part = texts[i:i + a.batch]
        gen = [torch.Generator().manual_seed(1000 + i + k) for k in range(len(part))]
        with torch.autocast("cpu", torch.bfloat16, enabled=a.bf16):
            out = pipe(part, height=clips.SIZE, width=clips.SIZE, num_frames=a.frames, num_inference_steps=a.steps,
                       guidance_scale=a.guidance, generator=gen, output_type="np", max_sequence_length=512).frames
        for v in out:
            yield (v * 255).clip(0, 255).astype(np.uint8)


def render_praxino(combos, texts, a):
    from PIL import Image
    for i, t in enumerate(texts):
        folder = os.path.join(a.out, "clip%04d" % i)
        os.makedirs(folder, exist_ok=True)
        cmd = [a.command, "render", t, "-m", a.model, "-o", os.path.join(folder, "%04d.png"), "--steps", str(a.steps),
               "--guidance", str(a.guidance), "--seed", str(1000 + i)] + a.extra.split()
        subprocess.run(cmd, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        names = sorted(n for n in os.listdir(folder) if n.endswith(".png"))
        yield np.stack([np.asarray(Image.open(os.path.join(folder, n)).convert("RGB")) for n in names])


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--engine", choices=["praxino", "diffusers", "vae"], default="praxino")
    p.add_argument("--truth", action="store_true")
    p.add_argument("--model", default="models/tiny")
    p.add_argument("--command", default="./praxino")
    p.add_argument("--extra", default="", help="more options for the command")
    p.add_argument("--out", default="/tmp/tiny_eval")
    p.add_argument("--n", type=int, default=224)
    p.add_argument("--steps", type=int, default=20)
    p.add_argument("--guidance", type=float, default=4.0)
    p.add_argument("--shift", type=float, default=0.0)
    p.add_argument("--frames", type=int, default=clips.FRAMES)
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--bf16", action="store_true")
    p.add_argument("--paraphrase", action="store_true")
    p.add_argument("--prompt", action="append", help="render these instead and only make the sheet")
    a = p.parse_args()
    os.makedirs(a.out, exist_ok=True)
    from PIL import Image
    combos = prompts(a.n)
    texts = [clips.caption(dict(bg=b, objects=[dict(colour=c, shape=s, motion=m)]), np.random.default_rng(i), not a.paraphrase)
             for i, (c, s, b, m) in enumerate(combos)]
    if a.prompt:
        combos, texts = [("", "", "", "")] * len(a.prompt), a.prompt
    source = render_truth(combos, a) if a.truth else render_vae(combos, a) if a.engine == "vae" else (
        render_diffusers(combos, texts, a) if a.engine == "diffusers" else render_praxino(combos, texts, a))
    keys = ("colour", "shape", "background", "motion")
    hits, by, wrong, shown, began = {k: 0 for k in keys}, {}, [], [], time.time()
    for i, (combo, text, clip) in enumerate(zip(combos, texts, source)):
        if len(shown) < 24:
            shown.append(clip)
        if a.prompt:
            continue
        seen = measure(clip)
        want = dict(zip(("colour", "shape", "background", "motion"), combo))
        for k in keys:
            ok = seen[k] == want[k]
            hits[k] += ok
            v = by.setdefault(k, {}).setdefault(want[k], [0, 0])
            v[0] += ok
            v[1] += 1
        bad = [f"{k} {seen[k]}" for k in keys if seen[k] != want[k]]
        if bad:
            wrong.append((i, text, bad))
        if (i + 1) % 32 == 0:
            print(i + 1, {k: round(100 * hits[k] / (i + 1), 1) for k in keys}, "%.0f s" % (time.time() - began), flush=True)
    Image.fromarray(clips.sheet(shown, columns=2)).save(os.path.join(a.out, "sheet.png"))
    if a.prompt:
        return
    n = len(combos)
    for w in wrong[:60]:
        print("%4d  %-70s %s" % (w[0], w[1], "; ".join(w[2])))
    for k in keys:
        print("%-10s %5.1f %%   " % (k, 100 * hits[k] / n), {q: "%d/%d" % tuple(v) for q, v in by[k].items()})
    with open(os.path.join(a.out, "results.json"), "w") as f:
        json.dump(dict(n=n, engine="truth" if a.truth else a.engine, steps=a.steps, guidance=a.guidance,
                       percent={k: 100 * hits[k] / n for k in keys}, by=by, wrong=wrong), f, indent=1)


if __name__ == "__main__":
    main()
