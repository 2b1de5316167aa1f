/* cuDNN's backend interface in a few functions, for tests: descriptors keep what they are told, plans do what their graph says on
 * the host, by the plainest loops over dimensions and strides. What is asked of the real one is thereby run, not only made. */
#ifndef PRXI_TESTS_CUDA_FAKE_CUDNN_H
#define PRXI_TESTS_CUDA_FAKE_CUDNN_H

#include "engine/cuda/cudnn_api.h"

const prxi_cudnn_api *fake_cudnn(void);
/* The n-th call that can fail does, 0: none. Returns how many there were since the last time. */
int fake_cudnn_fail(int n);
/* Descriptors that live; plans made since the last time. */
int fake_cudnn_alive(void);
int fake_cudnn_planned(void);
/* Configurations that can be planned: engines 7, 8, (2, which cannot,) 9 in one mode, 7 in the other. */
enum { FAKE_CUDNN_CONFIGS = 4 };
/* 1: engine 9 is the only one, in both modes; 0: those above. */
void fake_cudnn_configs(int one);
/* Plans of this engine say that they want so many bytes; -1: none does. */
void fake_cudnn_workspace(int engine, int64_t bytes);
/* Told of each execution, with the number of the engine; NULL: nobody. Not 0: it fails. */
void fake_cudnn_watch(int (*ran)(int engine));
/* What version() says from now on. */
void fake_cudnn_version(size_t v);

#endif
