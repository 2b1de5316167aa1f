/* Opens what `compare` is given: dumps by their tensor `frames`, all else as video. */
#include "compare_files.h"

#include <string.h>
#include <strings.h>

#include "engine/weights/safetensors.h"

typedef struct input {
    prxi_tensors *dump;      /* lies under the reader's frames */
    prxi_reader *reader;
} input;

static int open_dump(prxi_ctx *c, input *in, const char *path)
{
    int err = prxi_tensors_open_file(c, &in->dump, path);
    if (err < 0)
        return err;
    const prxi_tensor *t = prxi_tensors_find(in->dump, "frames");
    if (!t)
        return prxi_fail(c, PRX_EINVAL, "%s: no tensor `frames`; render with --dump writes one", path);
    if (t->dtype != PRXI_U8 || t->ndim != 4 || t->shape[3] != 3)
        return prxi_fail(c, PRX_EFORMAT, "%s: tensor `frames` is %s with %d dimensions; u8 [frames, height, width, 3] is expected",
                         path, prxi_dtype_name(t->dtype), t->ndim);
    return prxi_reader_open_frames(c, &in->reader, t->data, t->shape[0], t->shape[1], t->shape[2]);
}

static int open_input(prxi_ctx *c, input *in, const char *path)
{
    const size_t n = strlen(path), k = sizeof ".safetensors" - 1;
    if (n > k && strcasecmp(path + n - k, ".safetensors") == 0)
        return open_dump(c, in, path);
    return prxi_reader_open(c, &in->reader, path);
}

static void close_input(prxi_ctx *c, input *in)
{
    prxi_reader_close(c, &in->reader);
    prxi_tensors_close(c, &in->dump);
}

int prxi_compare_files(prxi_ctx *c, const char *a, const char *b, cJSON **out)
{
    input first = { NULL, NULL }, second = { NULL, NULL };
    *out = NULL;
    int err = open_input(c, &first, a);
    if (err >= 0)
        err = open_input(c, &second, b);
    if (err >= 0)
        err = prxi_compare(c, first.reader, second.reader, out);
    close_input(c, &first);
    close_input(c, &second);
    return err;
}
