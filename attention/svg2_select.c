/* Selection and permutation of SVG2: pure functions over one head. */
#include "attention/svg2_select.h"

#include <math.h>

enum { DIGIT_BITS = 11, DIGITS = 1 << DIGIT_BITS };

/* Bits of a non-negative float rise with its value. */
static uint32_t falling_key(float p)
{
    uint32_t bits;
    memcpy(&bits, &p, 4);
    return ~bits;
}

/* Least-significant-digit radix sort of indices, three passes: stable, so equal probabilities stay in index order. */
static void sort_falling(const float *prob, int k, int32_t *order, int32_t *spare)
{
    int32_t *from = spare, *to = order;
    for (int i = 0; i < k; i++)
        from[i] = i;
    for (int shift = 0; shift < 33; shift += DIGIT_BITS) {
        int32_t at[DIGITS] = { 0 }, sum = 0;
        for (int i = 0; i < k; i++)
            at[falling_key(prob[i]) >> shift & (DIGITS - 1)]++;
        for (int i = 0; i < DIGITS; i++) {
            const int32_t n = at[i];
            at[i] = sum;
            sum += n;
        }
        for (int i = 0; i < k; i++)
            to[at[falling_key(prob[from[i]]) >> shift & (DIGITS - 1)]++] = from[i];
        int32_t *t = from;
        from = to;
        to = t;
    }
}

static void weigh(const float *logits, const int32_t *sizes, int k, float *prob)
{
    float top = -INFINITY, sum = 0.0f;
    for (int j = 0; j < k; j++)
        top = logits[j] > top ? logits[j] : top;
    for (int j = 0; j < k; j++) {
        prob[j] = sizes[j] ? (float)sizes[j] * expf(logits[j] - top) : 0.0f;
        sum += prob[j];
    }
    const float floor_sum = sum > 1e-12f ? sum : 1e-12f;
    for (int j = 0; j < k; j++)
        prob[j] /= floor_sum;
}

int prxi_svg2_row(const float *logits, const int32_t *sizes, int k, double p, int least, float *prob, int32_t *order,
                  int32_t *spare, unsigned char *keep)
{
    int kept = 0;
    float sum = 0.0f;
    weigh(logits, sizes, k, prob);
    sort_falling(prob, k, order, spare);
    for (int j = 0; j < k; j++)
        keep[j] = 0;
    while (kept < k && (kept == 0 || kept < least || p >= 1.0 || !(sum > (float)p))) {
        keep[order[kept]] = 1;
        sum += prob[order[kept]];
        kept++;
    }
    return kept;
}

void prxi_svg2_sort(const int32_t *labels, int64_t n, int k, int32_t *perm, int32_t *start)
{
    memset(start, 0, (size_t)(k + 1) * sizeof *start);
    for (int64_t i = 0; i < n; i++)
        start[labels[i] + 1]++;
    for (int c = 0; c < k; c++)
        start[c + 1] += start[c];
    for (int64_t i = 0; i < n; i++)
        perm[start[labels[i]]++] = (int32_t)i;
    for (int c = k; c > 0; c--)
        start[c] = start[c - 1];
    start[0] = 0;
}

void prxi_svg2_add_text(const unsigned char *map, int q, int k, unsigned char *wide)
{
    for (int i = 0; i < q + 2; i++) {
        unsigned char *row = wide + (size_t)i * (size_t)(k + 2);
        memset(row, i == q, (size_t)k + 2);
        if (i < q) {
            memcpy(row, map + (size_t)i * (size_t)k, (size_t)k);
            row[k] = 1;
        }
        row[k + 1] = i == q + 1;
    }
}
