/* Data of configs/ that travels inside the library: the build turns the files into strings. */
#ifndef PRXI_BUILTIN_H
#define PRXI_BUILTIN_H

typedef struct prxi_builtin {
    const char *name, *text;       /* file name without .json; JSON */
} prxi_builtin;

extern const prxi_builtin prxi_builtin_models[], prxi_builtin_presets[];    /* the last has name NULL */

#endif
