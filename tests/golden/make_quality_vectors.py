#!/usr/bin/env python3
"""Writes tests/unit/quality_vectors.h: SSIM and PSNR by scikit-image, MS-SSIM by its definition on scipy's filter.

The pictures are integer formulas, which tests/unit/quality.c repeats. Needs numpy, scipy, scikit-image 0.26.
    python3 tests/golden/make_quality_vectors.py > tests/unit/quality_vectors.h
"""
import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

SIZES = [(64, 48), (33, 27), (11, 11), (200, 181)]
KINDS = ["noise", "blur", "brighter", "flat", "one_bit"]


def lcg(n, seed):
    out = np.empty(n, np.uint32)
    s = seed
    for i in range(n):
        s = (s * 1664525 + 1013904223) & 0xFFFFFFFF
        out[i] = s >> 16
    return out.astype(np.int64)


def picture(w, h, seed):
    y, x, c = np.meshgrid(np.arange(h), np.arange(w), np.arange(3), indexing="ij")
    v = 40 + (x * (3 + c)) % 151 + (y * (5 - c)) % 47 + lcg(w * h * 3, seed).reshape(h, w, 3) % 17
    return np.minimum(v, 255).astype(np.uint8)


def pair(kind, w, h):
    a = picture(w, h, 1)
    v = a.astype(np.int64)
    if kind == "noise":
        b = v + lcg(w * h * 3, 2).reshape(h, w, 3) % 41 - 20
    elif kind == "blur":
        left = np.concatenate([v[:, :1], v[:, :-1]], 1)
        right = np.concatenate([v[:, 1:], v[:, -1:]], 1)
        b = (left + 2 * v + right) // 4
    elif kind == "brighter":
        b = v + 12
    elif kind == "flat":
        a, b = np.full_like(a, 100), np.full_like(v, 110)
    else:
        b = v.copy()
        b[h // 2, w // 2, 1] ^= 1
    return a, np.clip(b, 0, 255).astype(np.uint8)


def luma(rgb):
    return rgb.astype(np.float64) @ np.array([0.2126, 0.7152, 0.0722])


def ssim(a, b, **kw):
    return structural_similarity(a, b, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, **kw)


def terms(a, b):
    """Mean of SSIM and of its contrast and structure term over the valid region."""
    def g(v):
        return gaussian_filter(v, 1.5, truncate=3.5)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    ma, mb = g(a), g(b)
    cs = (2 * (g(a * b) - ma * mb) + c2) / (g(a * a) - ma * ma + g(b * b) - mb * mb + c2)
    full = cs * (2 * ma * mb + c1) / (ma * ma + mb * mb + c1)
    return full[5:-5, 5:-5].mean(), cs[5:-5, 5:-5].mean()


def ms_ssim(a, b):
    product = 1.0
    for i, w in enumerate([0.0448, 0.2856, 0.3001, 0.2363, 0.1333]):
        full, cs = terms(a, b)
        product *= max(full if i == 4 else cs, 0) ** w
        a, b = (p[:p.shape[0] // 2 * 2, :p.shape[1] // 2 * 2] for p in (a, b))
        a, b = ((p[::2, ::2] + p[1::2, ::2] + p[::2, 1::2] + p[1::2, 1::2]) / 4 for p in (a, b))
    return product


def main():
    print("/* Written by tests/golden/make_quality_vectors.py: kind, width, height, PSNR, SSIM of luma and RGB, MS-SSIM. */")
    print("#include <math.h>\n")
    print("static const struct {\n    const char *kind;\n    int width, height;\n    double psnr, luma, rgb, ms;\n} quality_vectors[] = {")
    for w, h in SIZES:
        for kind in KINDS:
            a, b = pair(kind, w, h)
            ms = f"{ms_ssim(luma(a), luma(b)):.15g}" if min(w, h) >= 176 else "NAN"
            print(f'    {{ "{kind}", {w}, {h}, {peak_signal_noise_ratio(a, b, data_range=255):.15g},'
                  f" {ssim(luma(a), luma(b)):.15g}, {ssim(a, b, channel_axis=2):.15g}, {ms} }},")
    print("};")


if __name__ == "__main__":
    main()
