/* Memory of the emulated device: addresses of its own. With PRAXINO_EMU_SPLIT=1 the host cannot read or write it outside the calls that
 * are the device's, as it cannot with a real one; pointers to the host's memory among the arguments of a kernel are found always. */
#ifndef PRXI_TESTS_CUDA_EMU_MEMORY_H
#define PRXI_TESTS_CUDA_EMU_MEMORY_H

#include <stddef.h>

/* shared: both sides may touch it. Filled with 0xff; NULL: none left. */
void *emu_memory_take(size_t bytes, bool shared);
/* False: something wrote behind it, or it is not a block. */
bool emu_memory_give(void *p);
int  emu_memory_blocks();
size_t emu_memory_bytes();
/* True: an aligned word of these bytes points to memory of the host. */
bool emu_memory_is_host(const void *argument, size_t bytes);

/* The same of an argument; what lies between its fields is no pointer. */
template <typename T> static bool emu_points_to_host(T argument)
{
    __builtin_clear_padding(&argument);
    return emu_memory_is_host(&argument, sizeof argument);
}

/* While one of these lives, this process is the device. */
struct emu_as_device {
    emu_as_device();
    ~emu_as_device();
};

#endif
