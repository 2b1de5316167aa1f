"""Writes tests/vectors/golden/{rng,sched}.h: what torch's CPU generator and diffusers' schedulers give, for the unit tests.

    python tests/golden/make_units.py        (versions: tests/golden/requirements.txt)

torch must run its AVX2 kernels or newer ones: noise is not the same with ATEN_CPU_CAPABILITY=default.
"""
import pathlib
import warnings

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler

warnings.filterwarnings("ignore")
OUT = pathlib.Path(__file__).resolve().parent.parent / "vectors" / "golden"
SHIFTS = (1.0, 3.0, 5.0, 7.0, 8.0, 12.0, 16.0, 2.3, 0.7, 3.7)


def fnv(h, data):
    for b in data:
        h = ((h ^ b) * 0x100000001B3) & (2**64 - 1)
    return h


def array(name, a):
    words = [f"0x{int(x):08x}" for x in np.ascontiguousarray(a, np.float32).view(np.uint32).ravel()]
    lines = [", ".join(words[i:i + 8]) for i in range(0, len(words), 8)]
    return f"static const uint32_t {name}[{len(words)}] = {{\n    " + ",\n    ".join(lines) + "\n};\n"


def write(name, purpose, parts):
    (OUT / name).write_text(
        f"/* Written by tests/golden/make_units.py with torch {torch.__version__.split('+')[0]}: {purpose} */\n"
        "#include <stddef.h>\n#include <stdint.h>\n\n" + "\n".join(parts))


def rng():
    assert torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    parts = []
    for seed, n in ((0, 32), (42, 16), (0, 20), (7, 15), (2**63 + 5, 33)):
        g = torch.Generator().manual_seed(seed)
        parts.append(array(f"rng_{seed}_{n}", torch.randn(n, generator=g).numpy()))
    g = torch.Generator().manual_seed(3)      # odd short calls leave a value behind that the next short call takes
    mixed = torch.cat([torch.randn(n, generator=g) for n in (3, 16, 2, 17, 1, 1)])
    parts.append(array("rng_mixed", mixed.numpy()))
    rows = []
    for seed, n in ((0, 16), (1, 17), (2, 31), (5, 1000), (123456789, 16 * 3 * 60 * 52), (2**32 - 1, 100001)):
        a = torch.randn(n, generator=torch.Generator().manual_seed(seed)).numpy()
        rows.append(f"    {{ {seed}ull, {n}, 0x{fnv(0xcbf29ce484222325, a.tobytes()):016x}ull }}")
    parts.append("/* seed, count, FNV-1a of the bytes (little endian) */\nstatic const struct {\n    uint64_t seed;\n"
                 "    size_t n;\n    uint64_t hash;\n} rng_hashes[] = {\n" + ",\n".join(rows) + "\n};\n")
    write("rng.h", "float32 bits of torch.randn", parts)


class OldUniPC(UniPCMultistepScheduler):
    """diffusers <= 0.36: the sigma table that DPMSolverMultistepScheduler still has."""

    def set_timesteps(self, n, **kw):
        super().set_timesteps(n, **kw)
        d = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True,
                                        flow_shift=self.config.flow_shift)
        d.set_timesteps(n)
        self.sigmas, self.timesteps = d.sigmas, d.timesteps


def make(name, shift, order, old):
    if name == "euler":
        return FlowMatchEulerDiscreteScheduler(shift=shift)
    cls = {"unipc": OldUniPC if old else UniPCMultistepScheduler, "dpmpp": DPMSolverMultistepScheduler}[name]
    return cls(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift, solver_order=order)


def trace(name, shift, order, old, n):
    """x after every step from x = 1, v = x / 2 + sin(i + k) for elements k = 0..2."""
    s = make(name, shift, order, old)
    s.set_timesteps(n)
    s.set_begin_index(0)
    x, out = torch.ones(1, 3, 1, 1, 1), []
    for i, t in enumerate(s.timesteps):
        v = (x.double() * 0.5 + torch.sin(torch.arange(3.0, dtype=torch.float64) + i).view(1, 3, 1, 1, 1)).float()
        x = s.step(v, t, x, return_dict=False)[0]
        out.append(x.flatten().numpy().copy())
    return np.stack(out)


def sched():
    parts, rows = [], []
    for name, old in (("unipc", 0), ("unipc", 1), ("euler", 0), ("dpmpp", 0)):
        for shift in SHIFTS:
            h = 0xCBF29CE484222325
            for n in range(1, 101):
                s = make(name, shift, 2, old)
                s.set_timesteps(n)
                h = fnv(h, s.sigmas.numpy().astype(np.float32).tobytes())
                h = fnv(h, s.timesteps.numpy().astype(np.float32).tobytes())
            rows.append(f'    {{ "{name}", {shift}, {old}, 0x{h:016x}ull }}')
    parts.append("/* FNV-1a over sigmas[n + 1] and timesteps[n] (float32, little endian) for n = 1..100 */\nstatic const struct {\n"
                 "    const char *name;\n    double shift;\n    int old;\n    uint64_t hash;\n} sched_tables[] = {\n"
                 + ",\n".join(rows) + "\n};\n")
    rows = []
    for k, (name, shift, order, old, n) in enumerate((
            ("unipc", 3.0, 2, 0, 10), ("unipc", 3.0, 2, 1, 10), ("unipc", 5.0, 2, 0, 50), ("unipc", 12.0, 1, 0, 7),
            ("unipc", 8.0, 2, 0, 1), ("unipc", 7.0, 2, 0, 2), ("unipc", 5.0, 2, 0, 3), ("euler", 3.0, 2, 0, 10),
            ("euler", 7.0, 2, 0, 2), ("euler", 5.0, 2, 0, 1), ("dpmpp", 3.0, 2, 0, 10), ("dpmpp", 5.0, 2, 0, 20),
            ("dpmpp", 5.0, 1, 0, 6), ("dpmpp", 5.0, 2, 0, 1), ("dpmpp", 3.0, 2, 0, 2),
            ("unipc", 3.0, 3, 0, 10), ("unipc", 5.0, 3, 0, 50), ("unipc", 3.0, 3, 1, 7), ("unipc", 5.0, 3, 0, 3))):
        parts.append(array(f"trace_{k}", trace(name, shift, order, old, n)))
        rows.append(f'    {{ "{name}", {shift}, {order}, {old}, {n}, trace_{k} }}')
    parts.append("static const struct {\n    const char *name;\n    double shift;\n    int order, old, steps;\n"
                 "    const uint32_t *x;      /* [steps][3] */\n} sched_traces[] = {\n" + ",\n".join(rows) + "\n};\n")
    write("sched.h", "tables and traces of diffusers' schedulers", parts)


if __name__ == "__main__":
    rng()
    sched()
