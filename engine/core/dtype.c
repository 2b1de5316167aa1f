/* Names of element types; binary16. */
#include "dtype.h"

const char *prxi_dtype_name(prxi_dtype t)
{
    static const char *const name[PRXI_DTYPES] = { [PRXI_F32] = "f32", [PRXI_BF16] = "bf16", [PRXI_F16] = "f16",
                                                   [PRXI_U8] = "u8" };
    return name[t];
}

float prxi_f16_to_f32(uint16_t v)
{
    const uint32_t sign = (uint32_t)(v >> 15) << 31;
    const uint32_t exp = (v >> 10) & 31u, frac = v & 1023u;
    float f;
    if (exp == 0) {     /* zero and subnormals: frac * 2^-24 */
        f = (float)frac * 0x1p-24f;
        return sign ? -f : f;
    }
    const uint32_t bits = sign | (exp == 31 ? 0x7f800000u : (exp + 112u) << 23) | frac << 13;
    memcpy(&f, &bits, 4);
    return f;
}
