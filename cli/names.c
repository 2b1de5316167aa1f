/* A file name from a prompt. */
#include "names.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { STEM_MAX = 60 };

/* Letters and digits of ASCII, small; all else separates words. Letters beyond ASCII are kept as they are. */
static void slug(const char *prompt, char *out)
{
    size_t n = 0, last_word = 0;
    int gap = 0, cut = 0;
    for (const unsigned char *p = (const unsigned char *)prompt; *p; p++) {
        unsigned char c = *p;
        if (c >= 'A' && c <= 'Z')
            c = (unsigned char)(c - 'A' + 'a');
        const int keep = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c >= 0x80;
        if (!keep) {
            gap = n > 0;
            continue;
        }
        if (n + 2 > STEM_MAX) {
            cut = 1;
            break;
        }
        if (gap) {
            last_word = n;
            out[n++] = '-';
            gap = 0;
        }
        out[n++] = (char)c;
    }
    if (cut && last_word > 0)
        n = last_word;
    while (cut && last_word == 0 && n > 0 && (out[n - 1] & 0x80))    /* never half a UTF-8 sequence */
        n--;
    out[n] = '\0';
    if (n == 0)
        strcpy(out, "praxino");
}

int name_for_prompt(const char *prompt, char *out, size_t n)
{
    char stem[STEM_MAX + 8];
    struct stat st;
    slug(prompt, stem);
    for (int i = 1; i < 10000; i++) {
        if (i == 1)
            snprintf(out, n, "%s.mp4", stem);
        else
            snprintf(out, n, "%s-%d.mp4", stem, i);
        if (lstat(out, &st) != 0)
            return 1;
    }
    return 0;
}
