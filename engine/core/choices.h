/* What was measured once and need not be measured again: pairs of key and value in a file of the user's cache folder
 * (PRAXINO_CACHE, else XDG_CACHE_HOME/praxino, else HOME/.cache/praxino; PRAXINO_CACHE empty: none). A file that is damaged or of another
 * program is logged and counts as empty; one that cannot be written is logged: nothing here ever fails a job. Not thread-safe. */
#ifndef PRXI_CHOICES_H
#define PRXI_CHOICES_H

#include "ctx.h"

enum { PRXI_CHOICE_KEY = 256, PRXI_CHOICE_VALUE = 192 };     /* with their NUL; printable, no spaces */

typedef struct prxi_choices prxi_choices;

/* NAME.choices in that folder. PRX_ENOMEM alone is an error. */
int  prxi_choices_open(prxi_ctx *c, prxi_choices **out, const char *name);
void prxi_choices_close(prxi_ctx *c, prxi_choices **choices);
/* NULL: not known. The text stays valid until the next put or save. */
const char *prxi_choices_get(const prxi_choices *k, const char *key);
/* PRX_EINVAL for what the file cannot hold, PRX_ENOMEM. */
int  prxi_choices_put(prxi_ctx *c, prxi_choices *k, const char *key, const char *value);
/* The i-th pair, NULL after the last: for those who look for many. */
const char *prxi_choices_at(const prxi_choices *k, int i, const char **value);
/* Writes what is new, if anything is, with what others wrote meanwhile; under its name only when complete. */
void prxi_choices_save(prxi_ctx *c, prxi_choices *k);

#endif
