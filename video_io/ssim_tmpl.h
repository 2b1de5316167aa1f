/* Body of the SSIM loop; the includer names SSIM_FN. Plain C whose sums are taken element by element, so that a vectorising
 * compiler gives the same bits for every width of vector. */
#include "engine/core/attr.h"
#include "ssim.h"

enum { R = PRXI_SSIM_TAPS / 2 };

static void filter_down(const double *PRXI_RESTRICT in, int width, const double *taps, double *PRXI_RESTRICT out)
{
    const double *m = in + (long)R * width;
    for (int x = 0; x < width; x++) {
        double s = taps[0] * m[x];
        s += taps[1] * (m[x - width] + m[x + width]);
        s += taps[2] * (m[x - 2L * width] + m[x + 2L * width]);
        s += taps[3] * (m[x - 3L * width] + m[x + 3L * width]);
        s += taps[4] * (m[x - 4L * width] + m[x + 4L * width]);
        s += taps[5] * (m[x - 5L * width] + m[x + 5L * width]);
        out[x] = s;
    }
}

static inline double filter_across(const double *m, const double *taps)
{
    double s = taps[0] * m[0];
    s += taps[1] * (m[-1] + m[1]);
    s += taps[2] * (m[-2] + m[2]);
    s += taps[3] * (m[-3] + m[3]);
    s += taps[4] * (m[-4] + m[4]);
    s += taps[5] * (m[-5] + m[5]);
    return s;
}

static void score_row(const double *PRXI_RESTRICT rows, int width, const double *taps, double *PRXI_RESTRICT ssim,
                      double *PRXI_RESTRICT contrast)
{
    const double c1 = (0.01 * 255) * (0.01 * 255), c2 = (0.03 * 255) * (0.03 * 255);
    for (int x = 0; x < width - 2 * R; x++) {
        const double *m = rows + x + R;
        const double ma = filter_across(m, taps), mb = filter_across(m + width, taps);
        const double squares = filter_across(m + 2L * width, taps), product = filter_across(m + 3L * width, taps);
        const double ab = ma * mb, aabb = ma * ma + mb * mb;
        const double cs = (2 * (product - ab) + c2) / (squares - aabb + c2);
        contrast[x] = cs;
        ssim[x] = cs * ((2 * ab + c1) / (aabb + c1));
    }
}

void SSIM_FN(const prxi_ssim_job *j, double out[2])
{
    const int w = j->width;
    double *ssim = j->rows + (long)PRXI_SSIM_MAPS * w, *contrast = ssim + w;
    out[0] = out[1] = 0;
    for (int y = 0; y + 2 * R < j->height; y++) {
        for (int k = 0; k < PRXI_SSIM_MAPS; k++)
            filter_down(j->map[k] + (long)y * w, w, j->taps, j->rows + (long)k * w);
        score_row(j->rows, w, j->taps, ssim, contrast);
        double s = 0, c = 0;
        for (int x = 0; x + 2 * R < w; x++) {
            s += ssim[x];
            c += contrast[x];
        }
        out[0] += s;
        out[1] += c;
    }
}
