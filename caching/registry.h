/* The cache policies that are built in: one line here and one in registry.c for a new one. */
#ifndef PRXI_CACHE_REGISTRY_H
#define PRXI_CACHE_REGISTRY_H

#include "cache.h"

extern const prxi_cache_policy prxi_cache_none;
extern const prxi_cache_policy prxi_cache_dbcache;
extern const prxi_cache_policy prxi_cache_lemica;
extern const prxi_cache_policy prxi_cache_teacache;
extern const prxi_cache_policy prxi_cache_magcache;
extern const prxi_cache_policy prxi_cache_easycache;
extern const prxi_cache_policy prxi_cache_dbprune;

#endif
