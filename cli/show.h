/* JSON of the library as text for people: indented "key  value" lines, tables for lists of objects. */
#ifndef PRX_CLI_SHOW_H
#define PRX_CLI_SHOW_H

#include <cjson/cJSON.h>
#include <stdio.h>

/* Lists longer than max_rows are cut, with a note. Keys that end in "bytes" are shown as KiB, MiB or GiB. */
void show_json(FILE *f, const cJSON *root, int max_rows);
/* The common end of inspect, doctor, bench: JSON to where --json says, else text to stdout. text is a JSON text of the
 * library. */
int show_or_write(const char *json_path, const char *text, int max_rows);

#endif
