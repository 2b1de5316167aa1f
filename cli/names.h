/* Names for outputs that the user did not name. */
#ifndef PRX_CLI_NAMES_H
#define PRX_CLI_NAMES_H

#include <stddef.h>

/* "A red ball!" -> "a-red-ball.mp4", cut at a word; a name that exists gets "-2", "-3", ... so that nothing is
 * overwritten. 1, or 0 when there is no free name. */
int name_for_prompt(const char *prompt, char *out, size_t n);

#endif
