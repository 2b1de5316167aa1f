/* Numbers of the search for settings: Student's t, bounds of a mean, and what a few trials say about a target. */
#ifndef PRXI_TUNE_STATS_H
#define PRXI_TUNE_STATS_H

/* x with P(T <= x) = p for Student's t; 0.5 <= p < 1. */
double prxi_t_quantile(double p, int degrees);

typedef struct prxi_sample {
    int n, worst_at;
    double mean, sd, worst, median;          /* worst: the least; sd NaN below two values */
    double bound;                            /* one-sided lower confidence bound of the mean; -inf below two values */
    double share;                            /* of the values that are at the target or above */
} prxi_sample;

prxi_sample prxi_sample_of(const double *v, int n, double confidence, double target);
double prxi_median(const double *v, int n);      /* at most 1024 values count; NaN for none */

/* A target: a measure that must not fall below it, and how it will be verified. */
typedef struct prxi_goal {
    double target, confidence;
    double spread;                           /* standard deviation between prompts that is assumed before it was seen */
    int held_out;                            /* prompts of the verification */
} prxi_goal;

typedef enum prxi_verdict { PRXI_MISSES_CLEARLY = -2, PRXI_MISSES = -1, PRXI_HOLDS = 1 } prxi_verdict;

/* How far the bound of the verification is expected to lie below the mean, from n values; the assumed spread counts as one more. */
double prxi_goal_margin(const prxi_goal *g, const double *v, int n);
/* HOLDS: the verification is expected to succeed; MISSES_CLEARLY: more trials are not worth their time. n > 0. */
prxi_verdict prxi_goal_judge(const prxi_goal *g, const double *v, int n);

#endif
