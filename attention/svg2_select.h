/* What SVG2 computes from a clustering: which cluster pairs to keep, where the tokens go, the block list. */
#ifndef PRXI_ATTENTION_SVG2_SELECT_H
#define PRXI_ATTENTION_SVG2_SELECT_H

#include "attention/attention.h"

/* One query cluster. prob = size-weighted softmax of logits over the k key clusters (attention.md 1.4); order = clusters by
 * falling probability, ties to the lowest; keep[j] = 1 for the shortest prefix whose running sum exceeds p, at least the
 * first `least` and always the first; p >= 1 keeps all. prob, order and spare hold k each. Returns how many are kept. */
int prxi_svg2_row(const float *logits, const int32_t *sizes, int k, double p, int least, float *prob, int32_t *order,
                  int32_t *spare, unsigned char *keep);

/* Stable counting sort of labels: perm[i] = token at position i, start[k + 1] = first position of each cluster. */
void prxi_svg2_sort(const int32_t *labels, int64_t n, int k, int32_t *perm, int32_t *start);

/* Two pseudo-clusters for text at the tail, prompt and padding: video and prompt see each other, padding sees padding.
 * map is [q][k] bytes, wide is [q + 2][k + 2]. */
void prxi_svg2_add_text(const unsigned char *map, int q, int k, unsigned char *wide);

#endif
