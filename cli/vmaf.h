/* VMAF of two files by the `ffmpeg` program, where it was built with libvmaf. */
#ifndef PRX_CLI_VMAF_H
#define PRX_CLI_VMAF_H

#include <cjson/cJSON.h>

/* 0 if an ffmpeg with libvmaf is on PATH, else the exit code 4 after a message. */
int vmaf_check(void);
/* Adds "vmaf": {"mean", "harmonic_mean", "per_frame": []} to root, whose "frames" must be met. a is the reference, frames are paired
 * in their order. 0 or an exit code after a message. */
int vmaf_add(const char *a, const char *b, cJSON *root);

#endif
