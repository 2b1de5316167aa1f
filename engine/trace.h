/* --record-trace: a strided sample of every step's probe (what DBCache's gate compares), so that `praxino replay` can try other settings
 * on the run. The recorder stands between the network and the job's cache, and changes nothing. */
#ifndef PRXI_TRACE_H
#define PRXI_TRACE_H

#include "caching/cache.h"

struct prx_engine;
struct prx_job;
typedef struct prxi_trace prxi_trace;

/* Of a planned job whose cache runs its first blocks in every step (none, dbcache); others are refused. */
int  prxi_trace_open(struct prx_job *j);
void prxi_trace_close(struct prx_job *j);
size_t prxi_trace_bytes(const prxi_trace *t);
int  prxi_trace_write(struct prx_job *j, const char *path);
/* Has at_block alone; its priv is the trace. */
extern const prxi_cache_policy prxi_trace_policy;

/* Options that say what the gate measures: a recorded diff serves a replay that has them equal. NULL ends the list. */
extern const char *const prxi_trace_metric[];

/* prx_replay of a trace in memory; name is for messages. */
int prxi_replay_text(struct prx_engine *e, const char *cache, const char *settings, const char *name, const char *text, size_t n,
                     char **json);

#endif
