/* The list of muxers, and the choice by file name. */
#include "video_int.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static const prxi_muxer *const muxers[] = {
    &prxi_muxer_mp4, &prxi_muxer_mkv, &prxi_muxer_mov, &prxi_muxer_webm, &prxi_muxer_gif,
    &prxi_muxer_png, &prxi_muxer_y4m, &prxi_muxer_hash, &prxi_muxer_null,
};

const prxi_muxer *prxi_muxer_at(int i)
{
    return i >= 0 && i < (int)(sizeof muxers / sizeof *muxers) ? muxers[i] : NULL;
}

const char *prxi_base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

const char *prxi_extension(const char *path)
{
    const char *base = prxi_base_name(path), *dot = strrchr(base, '.');
    return dot && dot != base ? dot + 1 : "";
}

/* Is ext one of the names in "a|b|c"? */
static int listed(const char *list, const char *ext)
{
    const size_t n = strlen(ext);
    while (n && *list) {
        const size_t k = strcspn(list, "|");
        if (k == n && strncasecmp(list, ext, n) == 0)
            return 1;
        list += k + (list[k] == '|');
    }
    return 0;
}

const prxi_muxer *prxi_muxer_for(prxi_ctx *c, const char *path)
{
    if (strcmp(path, "-") == 0)
        return &prxi_muxer_y4m;
    const char *ext = prxi_extension(path);
    char all[256] = "";
    size_t n = 0;
    for (int i = 0; prxi_muxer_at(i); i++) {
        const char *list = muxers[i]->extensions;
        if (listed(list, ext))
            return muxers[i];
        for (; *list && n < sizeof all; list += strcspn(list, "|"), list += *list == '|')
            n += (size_t)snprintf(all + n, sizeof all - n, "%s.%.*s", n ? " " : "", (int)strcspn(list, "|"), list);
    }
    if (*ext)
        prxi_fail(c, PRX_EINVAL, "%s: unknown extension \".%s\"; accepted: %s, or \"-\" for Y4M on standard output",
                  path, ext, all);
    else
        prxi_fail(c, PRX_EINVAL, "%s: no extension; accepted: %s, or \"-\" for Y4M on standard output", path, all);
    return NULL;
}
