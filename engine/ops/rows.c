/* Row loops over fixed blocks. */
#include "rows.h"

/* 16 k elements: 32 to 64 KiB, a few microseconds of work, which is what a thread hand-over costs. */
enum { BLOCK_ELEMENTS = 16384 };

typedef struct rows_job {
    prxi_rows_fn fn;
    const void *args;
    int64_t rows, block;
} rows_job;

static void rows_task(void *cookie, int64_t i, int thread)
{
    const rows_job *j = cookie;
    const int64_t begin = i * j->block, end = begin + j->block;
    (void)thread;
    j->fn(j->args, begin, end < j->rows ? end : j->rows);
}

void prxi_rows_run(prxi_stream *s, int64_t rows, int64_t row_size, prxi_rows_fn fn, const void *args)
{
    if (rows <= 0)
        return;
    const int64_t size = row_size > 0 ? row_size : 1;
    const int64_t block = size < BLOCK_ELEMENTS ? BLOCK_ELEMENTS / size : 1;
    if (rows <= 2 * block) {
        fn(args, 0, rows);
        return;
    }
    rows_job j = { fn, args, rows, block };
    prxi_parallel_for(s, (rows + block - 1) / block, rows_task, &j);
}
