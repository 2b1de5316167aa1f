/* The commands. Each gives the exit code. */
#ifndef PRX_CLI_COMMANDS_H
#define PRX_CLI_COMMANDS_H

#include "args.h"

extern const cli_command cmd_render, cmd_compare, cmd_inspect, cmd_bench, cmd_doctor, cmd_mask, cmd_replay, cmd_schedule,
                         cmd_sweep, cmd_tune;

#endif
