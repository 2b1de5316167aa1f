/* Row loops of the elementwise and norm ops: fixed blocks, chosen by size alone, so that neither the split nor the
 * decision to go parallel depends on the thread count. */
#ifndef PRXI_ROWS_H
#define PRXI_ROWS_H

#include "engine/core/stream.h"

typedef void (*prxi_rows_fn)(const void *args, int64_t begin, int64_t end);

/* fn over [0, rows) in blocks of whole rows, about 16 k elements each; row_size elements a row. */
void prxi_rows_run(prxi_stream *s, int64_t rows, int64_t row_size, prxi_rows_fn fn, const void *args);

#endif
