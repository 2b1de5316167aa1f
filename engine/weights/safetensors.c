/* The safetensors reader: map, check every header field against the file, look up by name. The rules are those of
 * the format's reference reader: offsets tile the data part without overlap, hole or remainder. */
#define _DEFAULT_SOURCE     /* madvise: posix_madvise(DONTNEED) does nothing in glibc */
#include "safetensors_int.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/core/file.h"
#include "engine/core/json.h"

static const size_t max_header = (size_t)100 << 20;

int prxi_tensors_new(prxi_ctx *c, prxi_tensors **out, const char *path)
{
    *out = NULL;
    prxi_tensors *t = prxi_calloc(c->mem, PRXI_MEM_MISC, 1, sizeof *t);
    if (!t)
        return prxi_fail_nomem(c, path, sizeof *t);
    t->path = prxi_strdup(c->mem, path);
    if (!t->path) {
        prxi_free(c->mem, t);
        return prxi_fail_nomem(c, path, strlen(path) + 1);
    }
    *out = t;
    return PRX_OK;
}

void prxi_tensors_close(prxi_ctx *c, prxi_tensors **t)
{
    prxi_tensors *p = *t;
    *t = NULL;
    if (!p)
        return;
    for (int i = 0; i < p->count; i++)
        prxi_free(c->mem, (char *)(uintptr_t)p->tensor[i].name);
    for (int i = 0; i < p->maps; i++)
        munmap(p->map[i].base, p->map[i].bytes);
    prxi_free(c->mem, p->map);
    prxi_free(c->mem, p->tensor);
    prxi_free(c->mem, p->used);
    prxi_free(c->mem, p->by_name);
    prxi_free(c->mem, p->path);
    prxi_free(c->mem, p);
}

/* ---- one header entry ---- */

typedef struct source {
    const char *path;
    const unsigned char *data;      /* behind the header */
    size_t bytes;
    int mapped;
} source;

static int parse_dtype(prxi_ctx *c, const source *s, const char *name, const cJSON *v, prxi_dtype *out)
{
    static const char *const spelled[PRXI_DTYPES] = { [PRXI_F32] = "F32", [PRXI_BF16] = "BF16", [PRXI_F16] = "F16",
                                                      [PRXI_U8] = "U8" };
    if (!cJSON_IsString(v))
        return prxi_fail(c, PRX_EFORMAT, "%s: tensor %s: dtype is missing", s->path, name);
    for (int i = 0; i < PRXI_DTYPES; i++) {
        if (strcmp(v->valuestring, spelled[i]) == 0) {
            *out = (prxi_dtype)i;
            return PRX_OK;
        }
    }
    return prxi_fail(c, PRX_EFORMAT, "%s: tensor %s: dtype %.32s is not supported, F32, F16, BF16 and U8 are", s->path,
                     name, v->valuestring);
}

/* A count or offset: a whole number in [0, 2^53]. */
static int whole(const cJSON *v, int64_t *out)
{
    if (!cJSON_IsNumber(v) || !(v->valuedouble >= 0 && v->valuedouble <= 0x1p53) || v->valuedouble != floor(v->valuedouble))
        return -1;
    *out = (int64_t)v->valuedouble;
    return 0;
}

static int parse_shape(prxi_ctx *c, const source *s, const cJSON *v, prxi_tensor *t)
{
    if (!cJSON_IsArray(v))
        return prxi_fail(c, PRX_EFORMAT, "%s: tensor %s: shape is missing", s->path, t->name);
    t->bytes = prxi_dtype_size(t->dtype);
    const cJSON *e;
    cJSON_ArrayForEach(e, v) {
        if (t->ndim == PRXI_MAX_DIMS)
            return prxi_fail(c, PRX_EFORMAT, "%s: tensor %s: more than %d dimensions", s->path, t->name, PRXI_MAX_DIMS);
        if (whole(e, &t->shape[t->ndim]) != 0)
            return prxi_fail(c, PRX_EFORMAT, "%s: tensor %s: shape needs whole numbers >= 0", s->path, t->name);
        t->bytes = prxi_mul(t->bytes, (size_t)t->shape[t->ndim++]);
    }
    if (t->bytes == SIZE_MAX)
        return prxi_fail(c, PRX_EFORMAT, "%s: tensor %s: shape is too large", s->path, t->name);
    return PRX_OK;
}

static int parse_offsets(prxi_ctx *c, const source *s, const cJSON *v, prxi_tensor *t)
{
    int64_t begin, end;
    if (!cJSON_IsArray(v) || cJSON_GetArraySize(v) != 2 || whole(v->child, &begin) != 0 ||
        whole(v->child->next, &end) != 0 || begin > end)
        return prxi_fail(c, PRX_EFORMAT, "%s: tensor %s: data_offsets needs two numbers, 0 <= begin <= end", s->path,
                         t->name);
    if ((uint64_t)end > s->bytes)
        return prxi_fail(c, PRX_EFORMAT, "%s: tensor %s: data ends at byte %lld, the file holds %zu (truncated?)",
                         s->path, t->name, (long long)end, s->bytes);
    if ((uint64_t)(end - begin) != t->bytes)
        return prxi_fail(c, PRX_EFORMAT, "%s: tensor %s: data_offsets span %lld bytes, shape and dtype need %zu", s->path,
                         t->name, (long long)(end - begin), t->bytes);
    t->data = s->data + begin;
    t->mapped = s->mapped;
    return PRX_OK;
}

static int parse_tensor(prxi_ctx *c, const source *s, const cJSON *v, prxi_tensor *t)
{
    if (!cJSON_IsObject(v))
        return prxi_fail(c, PRX_EFORMAT, "%s: tensor %s: an object is needed", s->path, t->name);
    int err = parse_dtype(c, s, t->name, cJSON_GetObjectItemCaseSensitive(v, "dtype"), &t->dtype);
    if (err == PRX_OK)
        err = parse_shape(c, s, cJSON_GetObjectItemCaseSensitive(v, "shape"), t);
    if (err == PRX_OK)
        err = parse_offsets(c, s, cJSON_GetObjectItemCaseSensitive(v, "data_offsets"), t);
    return err;
}

/* ---- a whole header ---- */

static int reserve(prxi_ctx *c, prxi_tensors *t, int more)
{
    if (more > INT32_MAX / 2 - t->count)
        return prxi_fail(c, PRX_EFORMAT, "%s: too many tensors", t->path);
    const int want = t->count + more;
    if (want <= t->capacity)
        return PRX_OK;
    prxi_tensor *p = prxi_realloc(c->mem, PRXI_MEM_MISC, t->tensor, prxi_mul((size_t)want, sizeof *p));
    if (!p)
        return prxi_fail_nomem(c, t->path, prxi_mul((size_t)want, sizeof *p));
    t->tensor = p;
    t->capacity = want;
    return PRX_OK;
}

static int by_offset(const void *a, const void *b)
{
    const prxi_tensor *x = a, *y = b;
    if (x->data != y->data)
        return (const char *)x->data < (const char *)y->data ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

/* Tensors [first, count) come from this source and are now sorted by place. */
static int check_tiling(prxi_ctx *c, const prxi_tensors *t, int first, const source *s)
{
    const unsigned char *at = s->data;
    for (int i = first; i < t->count; i++) {
        const prxi_tensor *x = &t->tensor[i];
        const unsigned char *p = x->data;
        if (p < at)
            return prxi_fail(c, PRX_EFORMAT, "%s: tensor %s: data overlaps tensor %s", s->path, x->name,
                             t->tensor[i - 1].name);
        if (p > at)
            return prxi_fail(c, PRX_EFORMAT, "%s: tensor %s: %zu bytes before its data belong to no tensor", s->path,
                             x->name, (size_t)(p - at));
        at = p + x->bytes;
    }
    const size_t rest = s->bytes - (size_t)(at - s->data);
    if (rest != 0)
        return prxi_fail(c, PRX_EFORMAT, "%s: the last %zu bytes belong to no tensor", s->path, rest);
    return PRX_OK;
}

static int add_entries(prxi_ctx *c, prxi_tensors *t, const cJSON *root, const source *s)
{
    const int first = t->count;
    int err = reserve(c, t, cJSON_GetArraySize(root));
    const cJSON *v;
    if (err != PRX_OK)
        return err;
    cJSON_ArrayForEach(v, root) {
        if (strcmp(v->string, "__metadata__") == 0)
            continue;
        prxi_tensor *x = &t->tensor[t->count];
        memset(x, 0, sizeof *x);
        x->name = prxi_strdup(c->mem, v->string);
        if (!x->name)
            return prxi_fail_nomem(c, s->path, strlen(v->string) + 1);
        t->count++;
        err = parse_tensor(c, s, v, x);
        if (err != PRX_OK)
            return err;
    }
    if (t->count > first)
        qsort(t->tensor + first, (size_t)(t->count - first), sizeof *t->tensor, by_offset);
    return check_tiling(c, t, first, s);
}

static int add_source(prxi_ctx *c, prxi_tensors *t, const char *path, const void *data, size_t n, int mapped)
{
    const unsigned char *p = data;
    if (n < 8)
        return prxi_fail(c, PRX_EFORMAT, "%s: %zu bytes are not a safetensors file", path, n);
    uint64_t len = 0;
    for (int i = 7; i >= 0; i--)
        len = len << 8 | p[i];
    if (len > n - 8)
        return prxi_fail(c, PRX_EFORMAT, "%s: header of %llu bytes, the file holds %zu (truncated?)", path,
                         (unsigned long long)len, n - 8);
    if (len > max_header)
        return prxi_fail(c, PRX_EFORMAT, "%s: header of %llu bytes, at most %zu are accepted", path,
                         (unsigned long long)len, max_header);
    prxi_json j;
    int err = prxi_json_parse(c, &j, path, (const char *)p + 8, (size_t)len);
    if (err != PRX_OK)
        return err;
    const source s = { path, p + 8 + len, n - 8 - (size_t)len, mapped };
    err = add_entries(c, t, j.root, &s);
    prxi_json_close(c, &j);
    return err;
}

/* ---- files ---- */

static int map_file(prxi_ctx *c, const char *path, prxi_mapping *m)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);       /* a pipe without a writer is refused below, not waited for */
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) {
        const int err = errno;
        if (fd >= 0)
            close(fd);
        return prxi_fail(c, prxi_errno_status(err), "%s: cannot be opened: %s", path, strerror(err));
    }
    if (!S_ISREG(st.st_mode) || st.st_size < 8) {
        close(fd);
        return prxi_fail(c, PRX_EFORMAT, "%s: %s is not a safetensors file", path,
                         S_ISREG(st.st_mode) ? "a file under 8 bytes" : "what is not a regular file");
    }
    m->bytes = (size_t)st.st_size;
    m->base = mmap(NULL, m->bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    const int err = errno;
    close(fd);
    if (m->base == MAP_FAILED)
        return prxi_fail(c, prxi_errno_status(err), "%s: cannot be mapped: %s", path, strerror(err));
    return PRX_OK;
}

int prxi_tensors_add_file(prxi_ctx *c, prxi_tensors *t, const char *path)
{
    prxi_mapping *p = prxi_realloc(c->mem, PRXI_MEM_MISC, t->map, ((size_t)t->maps + 1) * sizeof *p);
    if (!p)
        return prxi_fail_nomem(c, path, ((size_t)t->maps + 1) * sizeof *p);
    t->map = p;
    const int err = map_file(c, path, &p[t->maps]);
    if (err != PRX_OK)
        return err;
    const prxi_mapping *m = &p[t->maps++];
    return add_source(c, t, path, m->base, m->bytes, 1);
}

/* ---- names ---- */

typedef struct name_ref {
    const char *name;
    int index;
} name_ref;

static int by_name(const void *a, const void *b)
{
    return strcmp(((const name_ref *)a)->name, ((const name_ref *)b)->name);
}

int prxi_tensors_index(prxi_ctx *c, prxi_tensors *t)
{
    if (t->count == 0)
        return prxi_fail(c, PRX_EFORMAT, "%s: holds no tensors", t->path);
    const size_t n = (size_t)t->count;
    name_ref *ref = prxi_alloc(c->mem, PRXI_MEM_MISC, prxi_mul(n, sizeof *ref));
    if (!t->by_name)
        t->by_name = prxi_alloc(c->mem, PRXI_MEM_MISC, prxi_mul(n, sizeof *t->by_name));
    if (!t->used)
        t->used = prxi_calloc(c->mem, PRXI_MEM_MISC, n, 1);
    if (!ref || !t->by_name || !t->used) {
        prxi_free(c->mem, ref);
        return prxi_fail_nomem(c, t->path, prxi_mul(n, sizeof *ref));
    }
    for (int i = 0; i < t->count; i++)
        ref[i] = (name_ref) { t->tensor[i].name, i };
    qsort(ref, n, sizeof *ref, by_name);
    int err = PRX_OK;
    for (size_t i = 0; i < n; i++) {
        t->by_name[i] = ref[i].index;
        if (i > 0 && strcmp(ref[i - 1].name, ref[i].name) == 0)
            err = prxi_fail(c, PRX_EFORMAT, "%s: tensor %s occurs twice", t->path, ref[i].name);
    }
    prxi_free(c->mem, ref);
    return err;
}

int prxi_tensors_position(const prxi_tensors *t, const char *name)
{
    int lo = 0, hi = t->count;
    while (lo < hi) {
        const int mid = lo + (hi - lo) / 2;
        const int d = strcmp(name, t->tensor[t->by_name[mid]].name);
        if (d == 0)
            return t->by_name[mid];
        if (d < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return -1;
}

int prxi_tensors_open_file(prxi_ctx *c, prxi_tensors **out, const char *path)
{
    int err = prxi_tensors_new(c, out, path);
    if (err != PRX_OK)
        return err;
    err = prxi_tensors_add_file(c, *out, path);
    if (err == PRX_OK)
        err = prxi_tensors_index(c, *out);
    if (err != PRX_OK)
        prxi_tensors_close(c, out);
    return err;
}

int prxi_tensors_open_memory(prxi_ctx *c, prxi_tensors **out, const char *name, const void *data, size_t n)
{
    int err = prxi_tensors_new(c, out, name);
    if (err != PRX_OK)
        return err;
    err = add_source(c, *out, name, data, n, 0);
    if (err == PRX_OK)
        err = prxi_tensors_index(c, *out);
    if (err != PRX_OK)
        prxi_tensors_close(c, out);
    return err;
}

/* ---- use ---- */

int prxi_tensors_count(const prxi_tensors *t)
{
    return t->count;
}

const prxi_tensor *prxi_tensors_at(const prxi_tensors *t, int i)
{
    return &t->tensor[i];
}

const prxi_tensor *prxi_tensors_find(prxi_tensors *t, const char *name)
{
    const int i = prxi_tensors_position(t, name);
    if (i < 0)
        return NULL;
    t->used[i] = 1;
    return &t->tensor[i];
}

/* "[2, 3]" */
static void shape_text(char *out, size_t n, int ndim, const int64_t *shape)
{
    size_t at = (size_t)snprintf(out, n, "[");
    for (int i = 0; i < ndim && at < n; i++)
        at += (size_t)snprintf(out + at, n - at, "%s%lld", i ? ", " : "", (long long)shape[i]);
    if (at < n)
        snprintf(out + at, n - at, "]");
}

int prxi_tensors_get(prxi_ctx *c, prxi_tensors *t, const char *name, int ndim, const int64_t *shape,
                     const prxi_tensor **out)
{
    *out = NULL;
    const prxi_tensor *x = prxi_tensors_find(t, name);
    if (!x)
        return prxi_fail(c, PRX_EFORMAT, "%s: tensor %s is missing", t->path, name);
    if (x->dtype == PRXI_U8)
        return prxi_fail(c, PRX_EFORMAT, "%s: tensor %s: dtype U8, F32, F16 or BF16 is needed", t->path, name);
    int same = x->ndim == ndim;
    for (int i = 0; same && i < ndim; i++)
        same = x->shape[i] == shape[i];
    if (!same) {
        char have[128], need[128];
        shape_text(have, sizeof have, x->ndim, x->shape);
        shape_text(need, sizeof need, ndim, shape);
        return prxi_fail(c, PRX_EFORMAT, "%s: tensor %s: shape %s, the configuration needs %s", t->path, name, have, need);
    }
    *out = x;
    return PRX_OK;
}

/* Longest name that a rename may write. */
enum { MAX_NAME = 512 };

static int new_names(prxi_ctx *c, const prxi_tensors *t, int (*fn)(const char *, char *, size_t), char **name)
{
    char buf[MAX_NAME];
    for (int i = 0; i < t->count; i++) {
        const int changed = fn(t->tensor[i].name, buf, sizeof buf);
        if (changed < 0)
            return prxi_fail(c, PRX_EFORMAT, "%s: tensor %s: the name is too long", t->path, t->tensor[i].name);
        name[i] = prxi_strdup(c->mem, changed ? buf : t->tensor[i].name);
        if (!name[i])
            return prxi_fail_nomem(c, t->path, sizeof buf);
    }
    return PRX_OK;
}

int prxi_tensors_rename(prxi_ctx *c, prxi_tensors *t, int (*fn)(const char *name, char *out, size_t n))
{
    const size_t n = (size_t)t->count;
    char **name = prxi_calloc(c->mem, PRXI_MEM_MISC, n, sizeof *name);
    if (!name)
        return prxi_fail_nomem(c, t->path, prxi_mul(n, sizeof *name));
    const int err = new_names(c, t, fn, name);
    for (size_t i = 0; i < n; i++) {
        if (err == PRX_OK) {
            char *old = (char *)(uintptr_t)t->tensor[i].name;
            t->tensor[i].name = name[i];
            name[i] = old;
        }
        prxi_free(c->mem, name[i]);
    }
    prxi_free(c->mem, name);
    return err == PRX_OK ? prxi_tensors_index(c, t) : err;
}

int prxi_tensors_check_used(prxi_ctx *c, const prxi_tensors *t, int (*ignore)(const char *name))
{
    for (int i = 0; i < t->count; i++) {
        if (!t->used[i] && !(ignore && ignore(t->tensor[i].name)))
            return prxi_fail(c, PRX_EFORMAT, "%s: tensor %s is unknown to this model", t->path, t->tensor[i].name);
    }
    return PRX_OK;
}

void prxi_tensor_drop(const prxi_tensor *t)
{
    if (!t->mapped || t->bytes == 0)
        return;
    /* Whole pages: a neighbour's bytes on the first and last page are read again from the file when needed. */
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t begin = (uintptr_t)t->data & ~(page - 1);
    const uintptr_t end = (uintptr_t)t->data + t->bytes;
    madvise((void *)begin, end - begin, MADV_DONTNEED);
}

size_t prxi_tensors_bytes(const prxi_tensors *t)
{
    size_t sum = 0;
    for (int i = 0; i < t->count; i++)
        sum += t->tensor[i].bytes;
    return sum;
}
