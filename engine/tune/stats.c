/* Student's t through the incomplete beta function; bounds and verdicts. */
#include "stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Continued fraction of the incomplete beta function (modified Lentz). */
static double beta_fraction(double a, double b, double x)
{
    const double tiny = 1e-300;
    double c = 1, d = 1 - (a + b) * x / (a + 1);
    d = 1 / (fabs(d) < tiny ? tiny : d);
    double h = d;
    for (int m = 1; m < 1000; m++) {
        const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        d = 1 + even * d, c = 1 + even / c;
        d = 1 / (fabs(d) < tiny ? tiny : d), c = fabs(c) < tiny ? tiny : c;
        h *= d * c;
        d = 1 + odd * d, c = 1 + odd / c;
        d = 1 / (fabs(d) < tiny ? tiny : d), c = fabs(c) < tiny ? tiny : c;
        const double factor = d * c;
        h *= factor;
        if (fabs(factor - 1) <= 1e-15)
            break;
    }
    return h;
}

/* I_x(a, b), 0 < x < 1. */
static double beta_share(double a, double b, double x)
{
    const double front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x));
    return x < (a + 1) / (a + b + 2) ? front * beta_fraction(a, b, x) / a : 1 - front * beta_fraction(b, a, 1 - x) / b;
}

static double t_share(double t, int degrees)
{
    return t <= 0 ? 0.5 : 1 - 0.5 * beta_share(0.5 * degrees, 0.5, degrees / (degrees + t * t));
}

double prxi_t_quantile(double p, int degrees)
{
    double low = 0, high = 1;
    while (t_share(high, degrees) < p && high < 1e12)
        high *= 2;
    for (int i = 0; i < 200 && high - low > 1e-14 * high; i++) {
        const double mid = 0.5 * (low + high);
        if (t_share(mid, degrees) < p)
            low = mid;
        else
            high = mid;
    }
    return 0.5 * (low + high);
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double prxi_median(const double *v, int n)
{
    enum { MOST = 1024 };
    double list[MOST];
    n = n < MOST ? n : MOST;
    if (n < 1)
        return NAN;
    memcpy(list, v, (size_t)n * sizeof *list);
    qsort(list, (size_t)n, sizeof *list, ascending);
    return 0.5 * (list[(n - 1) / 2] + list[n / 2]);
}

prxi_sample prxi_sample_of(const double *v, int n, double confidence, double target)
{
    prxi_sample s = { .n = n, .mean = NAN, .sd = NAN, .worst = NAN, .median = prxi_median(v, n), .bound = -INFINITY };
    double sum = 0, squares = 0;
    int held = 0;
    for (int i = 0; i < n; i++) {
        sum += v[i];
        held += v[i] >= target;
        if (i == 0 || v[i] < s.worst)
            s.worst = v[i], s.worst_at = i;
    }
    if (n < 1)
        return s;
    s.mean = sum / n;
    s.share = (double)held / n;
    for (int i = 0; i < n; i++)
        squares += (v[i] - s.mean) * (v[i] - s.mean);
    if (n > 1) {
        s.sd = sqrt(squares / (n - 1));
        s.bound = s.mean - prxi_t_quantile(confidence, n - 1) * s.sd / sqrt(n);
    }
    return s;
}

double prxi_goal_margin(const prxi_goal *g, const double *v, int n)
{
    const prxi_sample s = prxi_sample_of(v, n, g->confidence, g->target);
    const double seen = n > 1 ? (n - 1) * s.sd * s.sd : 0;
    const double sd = sqrt((seen + g->spread * g->spread) / n);
    return prxi_t_quantile(g->confidence, g->held_out - 1) * sd / sqrt(g->held_out);
}

prxi_verdict prxi_goal_judge(const prxi_goal *g, const double *v, int n)
{
    const double mean = prxi_sample_of(v, n, g->confidence, g->target).mean, margin = prxi_goal_margin(g, v, n);
    if (mean - margin >= g->target)
        return PRXI_HOLDS;
    return mean + margin < g->target ? PRXI_MISSES_CLEARLY : PRXI_MISSES;
}
