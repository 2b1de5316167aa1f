/* The inner loop of SSIM, one function per instruction set with equal results; for quality.c and the ssim files. */
#ifndef PRXI_SSIM_H
#define PRXI_SSIM_H

enum { PRXI_SSIM_TAPS = 11, PRXI_SSIM_MAPS = 4 };

typedef struct prxi_ssim_job {
    /* a, b, a a + b b, a b; each [height, width] */
    const double *map[PRXI_SSIM_MAPS];
    int width, height;
    const double *taps;      /* [6]: the middle one first */
    double *rows;            /* scratch [PRXI_SSIM_MAPS + 2, width] */
} prxi_ssim_job;

/* Sums over the valid positions: out[0] of SSIM, out[1] of its contrast and structure term. */
typedef void (*prxi_ssim_fn)(const prxi_ssim_job *j, double out[2]);

void prxi_ssim_ref(const prxi_ssim_job *j, double out[2]);
void prxi_ssim_avx2(const prxi_ssim_job *j, double out[2]);

#endif
