/* The only place for compiler extensions. */
#ifndef PRXI_ATTR_H
#define PRXI_ATTR_H

#if defined(__GNUC__)
#define PRXI_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define PRXI_RESTRICT __restrict__
#define PRXI_ALWAYS_INLINE inline __attribute__((always_inline))
#define PRXI_PREFETCH(p) __builtin_prefetch((p), 0, 2)
#else
#define PRXI_PRINTF(fmt, args)
#define PRXI_RESTRICT
#define PRXI_ALWAYS_INLINE inline
#define PRXI_PREFETCH(p) ((void)(p))
#endif

#endif
