/* 16 x 16 transpose of 32-bit elements in registers; only for files compiled with AVX-512. */
#ifndef PRXI_ATTENTION_TRANSPOSE512_H
#define PRXI_ATTENTION_TRANSPOSE512_H

#include <immintrin.h>

static inline void prxi_transpose16(__m512i x[16])
{
    __m512i a[16], b[16];
    for (int i = 0; i < 16; i += 2) {
        a[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
        a[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
    }
    /* b[4g + c]: column 4 * lane + c of rows 4g .. 4g + 3. */
    for (int i = 0; i < 16; i += 4) {
        b[i] = _mm512_unpacklo_epi64(a[i], a[i + 2]);
        b[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 2]);
        b[i + 2] = _mm512_unpacklo_epi64(a[i + 1], a[i + 3]);
        b[i + 3] = _mm512_unpackhi_epi64(a[i + 1], a[i + 3]);
    }
    for (int c = 0; c < 4; c++) {
        const __m512i lo0 = _mm512_shuffle_i32x4(b[c], b[4 + c], 0x88);
        const __m512i lo1 = _mm512_shuffle_i32x4(b[8 + c], b[12 + c], 0x88);
        const __m512i hi0 = _mm512_shuffle_i32x4(b[c], b[4 + c], 0xdd);
        const __m512i hi1 = _mm512_shuffle_i32x4(b[8 + c], b[12 + c], 0xdd);
        x[c] = _mm512_shuffle_i32x4(lo0, lo1, 0x88);
        x[8 + c] = _mm512_shuffle_i32x4(lo0, lo1, 0xdd);
        x[4 + c] = _mm512_shuffle_i32x4(hi0, hi1, 0x88);
        x[12 + c] = _mm512_shuffle_i32x4(hi0, hi1, 0xdd);
    }
}

#endif
