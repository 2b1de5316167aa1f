/* TeaCache's polynomial of degree 4: from the relative change of the timestep embedding to that of the model's output. */
#ifndef PRXI_CURVE_H
#define PRXI_CURVE_H

enum { PRXI_CURVE_TERMS = 5 };

typedef struct prxi_curve {
    double k[PRXI_CURVE_TERMS];      /* high to low */
    double lo, hi;                   /* where it was fitted: x outside counts as the nearer end */
    int open;                        /* as published: neither x nor the value is clamped */
} prxi_curve;

double prxi_curve_at(const prxi_curve *c, double x);
/* lo and hi of a polynomial whose range nobody published: the first stretch of [0, 1] where it is above 0.01, so that the
 * accumulator always grows. 0 when there is none. */
int prxi_curve_range(prxi_curve *c);
/* Least squares over n points; lo and hi are the extremes of x. 0 when the points do not determine it. */
int prxi_curve_fit(prxi_curve *c, const double *x, const double *y, int n);

#endif
