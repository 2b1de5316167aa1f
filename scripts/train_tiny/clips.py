"""Procedural clips and captions for the built-in model.

A clip is a `spec` (a plain dict: background, one or two objects with colour, shape, motion, size) drawn from a seed;
`draw` turns it into uint8 frames [T,128,128,3] and `caption` into an English sentence. Everything a caption says can
be measured from pixels again (see eval.py). Combinations for which `held_out` is true never occur in training.

Run as a program it writes a contact sheet: clips.py SHEET.png [seed]
"""
import sys
import zlib

import numpy as np

SIZE, FRAMES, FPS = 128, 33, 16

COLOURS = {
    "red": (222, 38, 38), "green": (36, 172, 62), "blue": (44, 78, 226), "yellow": (245, 216, 40),
    "orange": (244, 128, 24), "purple": (132, 52, 186), "cyan": (40, 206, 222), "pink": (248, 130, 186),
}
SHAPES = ["ball", "square", "triangle", "star", "ring", "heart"]
ROUND = {"ball", "ring"}  # turning these shows nothing
BACKGROUNDS = ["white", "black", "grey", "blue floor", "grass", "night", "checker", "wood"]
FLOORS = {"blue floor", "grass", "wood"}
MOTIONS = ["left", "right", "up", "down", "bounce", "spin", "grow", "shrink", "fade", "still"]
PAIR_MOTIONS_COL = ["up", "down", "bounce", "spin", "grow", "shrink", "still", "fade"]

COLOUR_WORDS = {"purple": ["purple", "purple", "violet"], "cyan": ["cyan", "cyan", "turquoise"]}
SHAPE_WORDS = {
    "ball": ["ball", "ball", "ball", "circle", "sphere"], "square": ["square", "square", "box"],
    "triangle": ["triangle"], "star": ["star"], "ring": ["ring", "ring", "hoop"],
    "heart": ["heart"],
}
# (third person, gerund)
MOTION_WORDS = {
    "left": [("moves left", "moving left"), ("moves to the left", "moving to the left"),
             ("slides left", "sliding left"), ("travels from right to left", "travelling from right to left"),
             ("glides to the left", "gliding to the left")],
    "right": [("moves right", "moving right"), ("moves to the right", "moving to the right"),
              ("slides right", "sliding right"), ("travels from left to right", "travelling from left to right"),
              ("glides to the right", "gliding to the right")],
    "up": [("moves up", "moving up"), ("rises", "rising"), ("moves upwards", "moving upwards"),
           ("floats up", "floating up")],
    "down": [("moves down", "moving down"), ("falls", "falling"), ("moves downwards", "moving downwards"),
             ("sinks", "sinking")],
    "bounce": [("bounces", "bouncing"), ("bounces", "bouncing"), ("bounces up and down", "bouncing up and down"),
               ("hops", "hopping")],
    "spin": [("spins", "spinning"), ("rotates", "rotating"), ("turns around", "turning around"),
             ("spins in place", "spinning in place")],
    "grow": [("grows", "growing"), ("gets bigger", "getting bigger"), ("becomes larger", "becoming larger")],
    "shrink": [("shrinks", "shrinking"), ("gets smaller", "getting smaller"), ("becomes smaller", "becoming smaller")],
    "fade": [("fades away", "fading away"), ("fades out", "fading out"), ("slowly disappears", "slowly disappearing")],
    "still": [("stays still", "staying still"), ("does not move", "not moving"), ("rests", "resting"),
              ("sits still", "sitting still")],
}
BACKGROUND_WORDS = {
    "white": ["on a white background", "on a white background", "in front of a white wall", "on white"],
    "black": ["on a black background", "on a black background", "in front of a black wall", "on black"],
    "grey": ["on a grey background", "on a gray background", "in front of a grey wall", "on grey"],
    "blue floor": ["on a blue floor", "on a blue floor", "over a blue floor", "on the blue floor"],
    "grass": ["on green grass", "on the grass", "on a green meadow", "on a lawn"],
    "night": ["in the night sky", "under the stars", "in a starry night sky", "at night"],
    "checker": ["on a checkered background", "on a checkerboard", "in front of a checkerboard",
                "on a checkered pattern"],
    "wood": ["on a wooden floor", "on a brown floor", "on the wooden floor"],
}


# ------------------------------------------------------------------------------------------------------- shapes
TABLE = 512
HALF = 1.5  # the table covers [-HALF, HALF]^2, shapes have a circumradius of about 1


def _polygon(points, x, y):
    """Signed distance to a polygon (negative inside), by nearest edge and crossing number."""
    p = np.asarray(points, float)
    q = np.roll(p, -1, 0)
    best = np.full(x.shape, 1e9)
    inside = np.zeros(x.shape, bool)
    for (ax, ay), (bx, by) in zip(p, q):
        ex, ey = bx - ax, by - ay
        t = np.clip(((x - ax) * ex + (y - ay) * ey) / (ex * ex + ey * ey), 0, 1)
        best = np.minimum(best, np.hypot(x - ax - t * ex, y - ay - t * ey))
        hit = (ay > y) != (by > y)
        with np.errstate(divide="ignore", invalid="ignore"):
            inside ^= hit & (x < (bx - ax) * (y - ay) / (by - ay) + ax)
    return np.where(inside, -best, best)


def _tables():
    g = (np.arange(TABLE) + 0.5) / TABLE * 2 * HALF - HALF
    x, y = np.meshgrid(g, g)
    r = np.hypot(x, y)
    angle = lambda n, off: [(np.sin(2 * np.pi * k / n + off), -np.cos(2 * np.pi * k / n + off)) for k in range(n)]
    star = []
    for k in range(10):
        rad = 1.12 if k % 2 == 0 else 0.47
        star.append((rad * np.sin(np.pi * k / 5), -rad * np.cos(np.pi * k / 5)))
    t = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    heart = list(zip(16 * np.sin(t) ** 3 / 16.0,
                     -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) / 16.0 - 0.12))
    s = 0.84
    out = {
        "ball": r - 0.98,
        "ring": np.abs(r - 0.76) - 0.25,
        "square": _polygon([(-s, -s), (s, -s), (s, s), (-s, s)], x, y),
        "triangle": _polygon([(px * 1.16, py * 1.16 + 0.2) for px, py in angle(3, 0.0)], x, y),
        "star": _polygon(star, x, y),
        "heart": _polygon(heart, x, y),
    }
    return {k: v.astype(np.float32) for k, v in out.items()}


_TABLES = None
# distance from the centre to the lowest point
BOTTOM = {"ball": 0.98, "ring": 1.01, "square": 0.84, "triangle": 0.78, "star": 0.92, "heart": 0.94}


def _blit(frame, shape, cx, cy, radius, angle, colour, alpha, shaded):
    """Draws one antialiased object into a float frame [H,W,3]; cx, cy, radius in pixels."""
    global _TABLES
    if _TABLES is None:
        _TABLES = _tables()
    h, w, _ = frame.shape
    ext = radius * 1.3 + 2
    x0, x1 = max(0, int(cx - ext)), min(w, int(cx + ext) + 2)
    y0, y1 = max(0, int(cy - ext)), min(h, int(cy + ext) + 2)
    if x0 >= x1 or y0 >= y1 or radius < 0.5:
        return
    x = (np.arange(x0, x1, dtype=np.float32) + 0.5 - cx)[None, :] / radius
    y = (np.arange(y0, y1, dtype=np.float32) + 0.5 - cy)[:, None] / radius
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u, v = c * x + s * y, -s * x + c * y
    k = np.float32(TABLE / (2 * HALF))
    iu = np.clip(((u + HALF) * k).astype(np.int32), 0, TABLE - 1)
    iv = np.clip(((v + HALF) * k).astype(np.int32), 0, TABLE - 1)
    cover = np.clip(0.5 - _TABLES[shape][iv, iu] * radius, 0, 1)[..., None] * alpha
    rgb = np.asarray(colour, np.float32)
    if shaded:  # a lamp above left: diffuse term on a sphere, and a small highlight
        nz = np.sqrt(np.clip(1 - (x * x + y * y), 0, 1))
        light = np.clip(-0.45 * x - 0.6 * y + 0.66 * nz, 0, 1)[..., None]
        spec = np.clip((light - 0.9) / 0.1, 0, 1) ** 2
        rgb = rgb * (0.62 + 0.42 * light) + 70.0 * spec
    part = frame[y0:y1, x0:x1]
    part += cover * (np.clip(rgb, 0, 255) - part)


def _shadow(frame, cx, gy, radius, strength):
    h, w, _ = frame.shape
    x = (np.arange(w, dtype=np.float32) + 0.5 - cx)[None, :] / (radius * 1.05)
    y0, y1 = max(0, int(gy - radius * 0.5)), min(h, int(gy + radius * 0.5) + 1)
    y = (np.arange(y0, y1, dtype=np.float32) + 0.5 - gy)[:, None] / (radius * 0.32)
    d = np.clip(1.25 - np.sqrt(x * x + y * y), 0, 0.6) / 0.6
    frame[y0:y1] *= 1 - (strength * d)[..., None]


# -------------------------------------------------------------------------------------------------- backgrounds
def background(spec):
    """Float image [H,W,3] of a spec's backdrop."""
    kind, p = spec["bg"], spec["bg_p"]
    img = np.zeros((SIZE, SIZE, 3), np.float32)
    y = (np.arange(SIZE, dtype=np.float32) + 0.5)[:, None, None] / SIZE
    flat = {"white": (244, 244, 244), "black": (10, 10, 12), "grey": (128, 128, 128)}
    if kind in flat:
        img[:] = np.asarray(flat[kind], np.float32) + (p[0] - 0.5) * 8
    elif kind in FLOORS:
        wall = {"blue floor": (226, 226, 222), "grass": (168, 208, 240), "wood": (240, 226, 200)}[kind]
        near = {"blue floor": (44, 84, 176), "grass": (66, 140, 52), "wood": (150, 98, 56)}[kind]
        far = {"blue floor": (70, 112, 200), "grass": (104, 172, 84), "wood": (176, 124, 78)}[kind]
        hz = spec["horizon"]
        k = np.clip((y - hz) / (1 - hz), 0, 1)
        floor = np.asarray(far, np.float32) * (1 - k) + np.asarray(near, np.float32) * k
        edge = np.clip((y - hz) * SIZE + 0.5, 0, 1)
        img[:] = np.asarray(wall, np.float32) * (1 - edge) + floor * edge
    elif kind == "night":
        img[:] = np.asarray((10, 12, 44), np.float32) * (1 - y) + np.asarray((38, 40, 96), np.float32) * y
        rng = np.random.default_rng(7)
        for _ in range(22):
            sx, sy = rng.integers(2, SIZE - 3, 2)
            img[sy:sy + 2, sx:sx + 2] += np.float32(90 + 110 * rng.random())
    elif kind == "checker":
        n = 16
        i = np.arange(SIZE) // n
        m = ((i[:, None] + i[None, :]) % 2)[..., None].astype(np.float32)
        img[:] = np.asarray((206, 206, 206), np.float32) * m + np.asarray((88, 88, 88), np.float32) * (1 - m)
    return np.clip(img, 0, 255)


# -------------------------------------------------------------------------------------------------------- specs
def held_out(colour, shape, bg, motion):
    """About one single-object combination in eight is kept out of training."""
    if (colour, shape, bg, motion) == ("red", "ball", "blue floor", "bounce"):
        return False  # the README's prompt
    return zlib.crc32(f"{colour}|{shape}|{bg}|{motion}".encode()) % 8 == 0


def _object(rng, colour, shape, bg, motion, slot, horizon):
    """Path and look of one object. slot: None (alone), 0/1 left or right column, 2/3 upper or lower row.

    Captions do not tell size, place or speed, so these vary little: what a caption leaves open is what a small model
    has to average over."""
    alone, floor = slot is None, bg in FLOORS
    r = rng.uniform(18, 22) if alone else rng.uniform(13, 15)
    o = dict(colour=colour, shape=shape, motion=motion, r=r, angle=0.0, jitter=rng.uniform(-5, 5, 3).tolist())
    cx = {None: rng.uniform(58, 70), 0: rng.uniform(31, 35), 1: rng.uniform(93, 97)}.get(slot, 64.0)
    lo, hi = r + 3, SIZE - r - 3
    gy = rng.uniform(104, 112) if floor else rng.uniform(112, 120)
    base = gy - r * BOTTOM[shape]
    o["gy"] = gy
    cy = base if floor else rng.uniform(58, 70)
    if slot == 2:
        cy = rng.uniform(32, 36)
    if slot == 3:
        cy = base if floor else rng.uniform(92, 96)
    xs, ys, span = (cx, cx), (cy, cy), rng.uniform(0.85, 1.0)
    if motion in ("left", "right"):
        xs = (lo, lo + (hi - lo) * span) if motion == "right" else (hi, hi - (hi - lo) * span)
    if motion in ("up", "down"):
        bottom = min(hi, base)
        ys = (bottom, bottom - (bottom - lo) * span) if motion == "up" else (lo, lo + (bottom - lo) * span)
    o.update(x0=float(xs[0]), x1=float(xs[1]), y0=float(ys[0]), y1=float(ys[1]))
    if motion == "bounce":
        o.update(y0=float(base), y1=float(base), hop=float(span * (base - lo)), count=2.0, phase=0.0)
    if motion == "spin":
        o["turn"] = float(rng.uniform(0.9, 1.0) * np.pi)
    small, large = r * rng.uniform(0.35, 0.4), r * (rng.uniform(1.2, 1.3) if alone else 1.1)
    if motion in ("grow", "shrink"):
        o.update(r0=small, r1=large) if motion == "grow" else o.update(r0=large, r1=small)
    return o


def spec_single(rng, colour, shape, bg, motion):
    hz = rng.uniform(0.56, 0.6)
    return dict(bg=bg, bg_p=rng.random(2).tolist(), horizon=hz,
                objects=[_object(rng, colour, shape, bg, motion, None, hz)])


def spec_from_seed(seed, pairs=0.15):
    """A training spec; the same seed gives the same spec."""
    rng = np.random.default_rng(seed)
    pick = lambda seq: seq[int(rng.integers(len(seq)))]
    if rng.random() < pairs:
        bg, hz = pick(BACKGROUNDS), rng.uniform(0.56, 0.6)
        c1, s1 = pick(list(COLOURS)), pick(SHAPES)
        c2, s2 = pick([c for c in COLOURS if c != c1]), pick(SHAPES)
        rows = rng.random() < 0.35
        motions = ["left", "right"] if rows else PAIR_MOTIONS_COL
        objs = []
        for i, (c, s) in enumerate(((c1, s1), (c2, s2))):
            m = pick([k for k in motions if not (k == "spin" and s in ROUND)])
            objs.append(_object(rng, c, s, bg, m, i + (2 if rows else 0), hz))
        return dict(bg=bg, bg_p=rng.random(2).tolist(), horizon=hz, objects=objs)
    while True:
        c, s, b, m = pick(list(COLOURS)), pick(SHAPES), pick(BACKGROUNDS), pick(MOTIONS)
        if not (m == "spin" and s in ROUND) and not held_out(c, s, b, m):
            return spec_single(rng, c, s, b, m)


def state(o, t):
    """x, y, radius, angle, alpha of an object at time t in [0,1]."""
    x, y = o["x0"] + (o["x1"] - o["x0"]) * t, o["y0"] + (o["y1"] - o["y0"]) * t
    r, a, alpha = o["r"], 0.0, 1.0
    if "hop" in o:
        y -= o["hop"] * abs(np.sin(np.pi * (o["count"] * t + o["phase"])))
    if "turn" in o:
        a = o["turn"] * t
    if "r0" in o:
        r = o["r0"] + (o["r1"] - o["r0"]) * t
    if o["motion"] == "fade":
        alpha = float(np.clip(1.08 - 1.08 * t, 0, 1))
    return x, y, r, a, alpha


def draw(spec, frames=FRAMES, first=0):
    """Frames first..frames-1 of a clip."""
    bg = background(spec)
    out = np.empty((frames - first, SIZE, SIZE, 3), np.uint8)
    for f in range(first, frames):
        t = f / (FRAMES - 1)
        img = bg.copy()
        states = [state(o, t) for o in spec["objects"]]
        if spec["bg"] in FLOORS:
            for o, (x, y, r, a, alpha) in zip(spec["objects"], states):
                lift = max(0.0, o["gy"] - y - r * BOTTOM[o["shape"]])
                _shadow(img, x, o["gy"], r * (1 + lift / 160), 0.45 * alpha / (1 + lift / 28))
        for o, (x, y, r, a, alpha) in zip(spec["objects"], states):
            rgb = np.asarray(COLOURS[o["colour"]], np.float32) + np.asarray(o["jitter"], np.float32)
            _blit(img, o["shape"], x, y, r, a, rgb, alpha, o["shape"] == "ball")
        out[f - first] = np.clip(img + 0.5, 0, 255)
    return out


# ----------------------------------------------------------------------------------------------------- captions
def _article(words):
    return ("an " if words[0] in "aeiou" else "a ") + words


def caption(spec, rng, canonical=False):
    """An English sentence for a spec. canonical: always the plainest wording."""
    pick = (lambda seq: seq[0]) if canonical else (lambda seq: seq[int(rng.integers(len(seq)))])
    bg = pick(BACKGROUND_WORDS[spec["bg"]])
    names, verbs = [], []
    for o in spec["objects"]:
        names.append(pick(COLOUR_WORDS.get(o["colour"], [o["colour"]])) + " " + pick(SHAPE_WORDS[o["shape"]]))
        verbs.append(pick(MOTION_WORDS[o["motion"]]))
    form = 0 if canonical else int(rng.choice(7, p=[0.4, 0.14, 0.14, 0.1, 0.08, 0.08, 0.06]))
    third = " and ".join(f"{_article(n)} {v[0]}" for n, v in zip(names, verbs))
    gerund = " and ".join(f"{_article(n)} {v[1]}" for n, v in zip(names, verbs))
    be = " and ".join(f"{_article(n)} is {v[1]}" for n, v in zip(names, verbs))
    text = [f"{third} {bg}", f"{be} {bg}", f"{gerund} {bg}", f"a video of {gerund} {bg}", f"{bg}, {third}",
            f"{third}, {bg}", ", ".join(f"{n} {v[1]}" for n, v in zip(names, verbs)) + f" {bg}"][form]
    if not canonical:
        if rng.random() < 0.25:
            text = text[0].upper() + text[1:]
        if rng.random() < 0.2:
            text += "."
    return text


def sheet(clips, columns=6, picks=(0, 8, 16, 24, 32)):
    """A contact sheet: each clip becomes a row of stills, `columns` clips to a line."""
    rows = []
    for c in clips:
        rows.append(np.concatenate([c[min(p, len(c) - 1)] for p in picks], 1))
    while len(rows) % columns:
        rows.append(np.zeros_like(rows[0]))
    lines = [np.concatenate(rows[i:i + columns], 1) for i in range(0, len(rows), columns)]
    return np.concatenate(lines, 0)


if __name__ == "__main__":
    from PIL import Image
    start = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    specs = [spec_from_seed(start + i) for i in range(24)]
    for i, s in enumerate(specs):
        print(i, caption(s, np.random.default_rng(i)))
    Image.fromarray(sheet([draw(s) for s in specs], columns=2)).save(sys.argv[1])
