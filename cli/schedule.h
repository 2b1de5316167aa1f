/* The parts of `praxino schedule`; each gives the exit code. */
#ifndef PRX_CLI_SCHEDULE_H
#define PRX_CLI_SCHEDULE_H

#include "args.h"

int schedule_build(const cli_args *a);
int schedule_show(const cli_args *a);

#endif
