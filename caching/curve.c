/* Evaluation, range and fit of TeaCache's polynomial. */
#include "curve.h"

#include <math.h>
#include <string.h>

enum { N = PRXI_CURVE_TERMS };

static double horner(const double *k, double x)
{
    double y = 0;
    for (int i = 0; i < N; i++)
        y = y * x + k[i];
    return y;
}

double prxi_curve_at(const prxi_curve *c, double x)
{
    if (c->open)
        return horner(c->k, x);
    const double y = horner(c->k, fmin(fmax(x, c->lo), c->hi));
    return y > 0 ? y : 0;
}

int prxi_curve_range(prxi_curve *c)
{
    const double floor_y = 0.01;
    int i = 0;
    while (i <= 10000 && horner(c->k, i * 1e-4) <= floor_y)
        i++;
    if (i > 10000)
        return 0;
    c->lo = i * 1e-4;
    while (i < 10000 && horner(c->k, (i + 1) * 1e-4) > floor_y)
        i++;
    c->hi = i * 1e-4;
    return 1;
}

/* Gauss with pivots; the last column is the right side. 0 when singular. */
static int solve(double a[N][N + 1], double *out)
{
    for (int col = 0; col < N; col++) {
        int best = col;
        for (int r = col + 1; r < N; r++)
            if (fabs(a[r][col]) > fabs(a[best][col]))
                best = r;
        if (!(fabs(a[best][col]) > 1e-12 * fabs(a[0][0])))
            return 0;
        double swap[N + 1];
        memcpy(swap, a[best], sizeof swap);
        memcpy(a[best], a[col], sizeof swap);
        memcpy(a[col], swap, sizeof swap);
        for (int r = 0; r < N; r++) {
            const double f = r == col ? 0 : a[r][col] / a[col][col];
            for (int k = col; k <= N; k++)
                a[r][k] -= f * a[col][k];
        }
    }
    for (int i = 0; i < N; i++)
        out[i] = a[i][N] / a[i][i];
    return 1;
}

/* From powers of u = (x - mid) / half, low to high, to powers of x, high to low. */
static void unscale(const double *low, double mid, double half, double *high)
{
    double p[N] = { 0 };                 /* of x, low to high */
    for (int i = N - 1; i >= 0; i--) {
        for (int k = N - 1; k >= 0; k--)
            p[k] = ((k ? p[k - 1] : 0) - mid * p[k]) / half;
        p[0] += low[i];
    }
    for (int i = 0; i < N; i++)
        high[i] = p[N - 1 - i];
}

int prxi_curve_fit(prxi_curve *c, const double *x, const double *y, int n)
{
    double a[N][N + 1] = { { 0 } }, low[N];
    *c = (prxi_curve) { .lo = INFINITY, .hi = -INFINITY };
    for (int i = 0; i < n; i++) {
        c->lo = fmin(c->lo, x[i]);
        c->hi = fmax(c->hi, x[i]);
    }
    const double mid = 0.5 * (c->lo + c->hi), half = 0.5 * (c->hi - c->lo);
    if (n < N || !(half > 0))
        return 0;
    for (int i = 0; i < n; i++) {
        double row[N] = { 1 };
        for (int k = 1; k < N; k++)
            row[k] = row[k - 1] * (x[i] - mid) / half;
        for (int r = 0; r < N; r++) {
            for (int k = 0; k < N; k++)
                a[r][k] += row[r] * row[k];
            a[r][N] += row[r] * y[i];
        }
    }
    if (!solve(a, low))
        return 0;
    unscale(low, mid, half, c->k);
    return 1;
}
