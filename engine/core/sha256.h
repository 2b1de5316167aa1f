/* SHA-256 (FIPS 180-4): digests of frames and files, for tests and for naming cached results. */
#ifndef PRXI_SHA256_H
#define PRXI_SHA256_H

#include <stddef.h>
#include <stdint.h>

typedef struct prxi_sha256 {
    uint32_t h[8];
    uint64_t bytes;
    uint8_t block[64];       /* the last bytes % 64 bytes */
} prxi_sha256;

void prxi_sha256_init(prxi_sha256 *s);
void prxi_sha256_add(prxi_sha256 *s, const void *data, size_t n);
/* Ends the message; out gets 64 lower case hexadecimal digits and a NUL. */
void prxi_sha256_hex(prxi_sha256 *s, char out[65]);

#endif
