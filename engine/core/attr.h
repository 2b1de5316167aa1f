/* The only place for compiler extensions. */
#ifndef PRXI_ATTR_H
#define PRXI_ATTR_H

#if defined(__GNUC__)
#define PRXI_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define PRXI_RESTRICT __restrict__
#else
#define PRXI_PRINTF(fmt, args)
#define PRXI_RESTRICT
#endif

#endif
