/* The table that the library sees. */
#include "launch.cuh"

#include "device.cuh"

extern const prxi_cu_kernel_row prxi_cu_kernel_rows[];      /* generated: cmake/ledger.cmake */

int prxi_cu_fail(device *d, int code, const char *op, const char *why)
{
    size_t n = 0;
    const char *const parts[] = { op, ": ", why };
    for (const char *part : parts)
        for (; *part && n + 1 < sizeof d->error; part++)
            d->error[n++] = *part;
    d->error[n] = '\0';
    return code;
}

static const char *last_error(void *dev)
{
    return as_device(dev)->error;
}

extern "C" __attribute__((visibility("default"))) const prxi_cuda_module *prxi_cuda_module_table(void)
{
    static prxi_cuda_module m;
    m.abi = PRXI_CUDA_ABI;
    m.size = sizeof m;
    m.device_bytes = prxi_cu_device_bytes();
    m.kernels = prxi_cu_kernel_rows;
    m.probe = prxi_cu_probe;
    m.open = prxi_cu_open;
    m.close = prxi_cu_close;
    m.last_error = last_error;
    m.alloc = prxi_cu_alloc;
    m.alloc_shared = prxi_cu_alloc_shared;
    m.release = prxi_cu_release;
    m.put = prxi_cu_put;
    m.get = prxi_cu_get;
    m.copy = prxi_cu_copy;
    m.alloc_host = prxi_cu_alloc_host;
    m.release_host = prxi_cu_release_host;
    m.fetch = prxi_cu_fetch;
    m.arrive = prxi_cu_arrive;
    m.leave = prxi_cu_leave;
    m.zero = prxi_cu_zero;
    m.sync = prxi_cu_sync;
    m.mark = prxi_cu_mark;
    m.between = prxi_cu_between;
    m.layernorm = prxi_cu_layernorm;
    m.rmsnorm = prxi_cu_rmsnorm;
    m.rms_silu = prxi_cu_rms_silu_run;
    m.binary = prxi_cu_binary_run;
    m.convert = prxi_cu_convert_run;
    m.softmax = prxi_cu_softmax;
    m.patchify = prxi_cu_patchify;
    m.unpatchify = prxi_cu_unpatchify;
    m.modulate = prxi_cu_modulate_run;
    m.conv = prxi_cu_conv_run;
    m.conv_simple = prxi_cu_conv_simple;
    m.frame_copy = prxi_cu_frame_copy_run;
    m.frame_dup = prxi_cu_frame_dup_run;
    m.frame_latent = prxi_cu_frame_latent_run;
    m.frame_carry = prxi_cu_frame_carry_run;
    m.frame_rgb = prxi_cu_frame_rgb_run;
    m.text_attention = prxi_cu_text_attention;
    m.store_rows = prxi_cu_store_rows;
    m.gemm = prxi_cu_gemm_lt;
    m.gemm_simple = prxi_cu_gemm_simple;
    m.gemm_memory = prxi_cu_gemm_remember;
    m.quantise = prxi_cu_quantise_run;
    m.attention = prxi_cu_attention;
    m.attention_simple = prxi_cu_attention_simple;
    m.attention90 = prxi_cu_attention90;
    m.attention90_takes = prxi_cu_attention90_takes;
    m.attention90_copies = prxi_cu_attention90_copies;
    m.stream = prxi_cu_stream;
    m.nearest = prxi_cu_nearest_run;
    m.gather = prxi_cu_gather;
    m.cluster = prxi_cu_cluster_run;
    m.select = prxi_cu_select_run;
    m.drift = prxi_cu_drift_run;
    m.forecast_update = prxi_cu_forecast_update;
    m.forecast_apply = prxi_cu_forecast_apply;
    m.guide = prxi_cu_guide;
    m.reduce = prxi_cu_reduce;
    m.sched_step = prxi_cu_sched_step;
    m.rgb_to_u8 = prxi_cu_rgb_to_u8;
    m.rgb_to_yuv = prxi_cu_rgb_to_yuv;
    return &m;
}
