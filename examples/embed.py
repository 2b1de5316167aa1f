#!/usr/bin/env python3
"""Praxino from Python through ctypes: no package needed beside libpraxino.

    python3 embed.py models/tiny "a red ball bounces on a blue floor" [KEY=VALUE ...]

Prints a line for every frame as it is decoded, then runs a second job and cancels it after its first step.
PRAXINO_LIB names the library where the loader does not find it.
"""
import ctypes
import ctypes.util
import os
import sys

PRX_OK, PRX_ECANCELED = 0, -7
PHASE_DENOISE = 2


class Progress(ctypes.Structure):
    _fields_ = [("phase", ctypes.c_int), ("step", ctypes.c_int), ("steps", ctypes.c_int),
                ("elapsed", ctypes.c_double), ("remaining", ctypes.c_double)]


class EngineParams(ctypes.Structure):
    _fields_ = [("device", ctypes.c_char_p), ("isa", ctypes.c_char_p), ("dtype", ctypes.c_char_p),
                ("threads", ctypes.c_int), ("log", ctypes.c_void_p), ("log_cookie", ctypes.c_void_p),
                ("log_level", ctypes.c_int), ("allocator", ctypes.c_void_p), ("reserved", ctypes.c_uint8 * 32)]


ProgressFn = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(Progress))
FrameFn = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_uint8),
                           ctypes.c_int, ctypes.c_int)


class PraxinoError(Exception):
    def __init__(self, status, text):
        super().__init__(text)
        self.status = status


def load_library():
    name = os.environ.get("PRAXINO_LIB") or ctypes.util.find_library("praxino") or "libpraxino.so.0"
    lib = ctypes.CDLL(name)
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    for function, result, arguments in [
            ("prx_version", text, []),
            ("prx_engine_default_params", None, [ctypes.POINTER(EngineParams)]),
            ("prx_engine_open", ctypes.c_int, [ctypes.POINTER(pointer), ctypes.POINTER(EngineParams)]),
            ("prx_engine_close", None, [ctypes.POINTER(pointer)]),
            ("prx_engine_last_error", text, [pointer]),
            ("prx_model_open", ctypes.c_int, [ctypes.POINTER(pointer), pointer, text]),
            ("prx_model_close", None, [ctypes.POINTER(pointer)]),
            ("prx_job_open", ctypes.c_int, [ctypes.POINTER(pointer), pointer]),
            ("prx_job_close", None, [ctypes.POINTER(pointer)]),
            ("prx_job_set", ctypes.c_int, [pointer, text, text]),
            ("prx_job_last_error", text, [pointer]),
            ("prx_job_on_progress", None, [pointer, ProgressFn, pointer]),
            ("prx_job_on_frame", None, [pointer, FrameFn, pointer]),
            ("prx_job_run", ctypes.c_int, [pointer]),
            ("prx_job_cancel", None, [pointer])]:
        f = getattr(lib, function)
        f.restype, f.argtypes = result, arguments
    return lib


class Job:
    """One clip. settings are those of prx_job_set; on_frame gets (index, bytes, width, height)."""

    def __init__(self, lib, model, settings, on_frame=None, on_progress=None):
        self.lib, self.handle = lib, ctypes.c_void_p()
        self.check(lib.prx_job_open(ctypes.byref(self.handle), model))
        for key, value in settings.items():
            self.check(lib.prx_job_set(self.handle, key.encode(), str(value).encode()))

        def frame(_cookie, index, rgb, width, height):
            if on_frame:
                on_frame(index, ctypes.string_at(rgb, width * height * 3), width, height)
            return PRX_OK

        def progress(_cookie, p):
            if on_progress:
                on_progress(self, p.contents)
            return 0

        # the library keeps the pointers: these objects must live as long as the job
        self.callbacks = FrameFn(frame), ProgressFn(progress)
        lib.prx_job_on_frame(self.handle, self.callbacks[0], None)
        lib.prx_job_on_progress(self.handle, self.callbacks[1], None)

    def check(self, status):
        if status < 0:
            text = self.lib.prx_job_last_error(self.handle) if self.handle else b"cannot open a job"
            raise PraxinoError(status, text.decode())

    def run(self):
        self.check(self.lib.prx_job_run(self.handle))

    def cancel(self):
        self.lib.prx_job_cancel(self.handle)

    def close(self):
        self.lib.prx_job_close(ctypes.byref(self.handle))


def print_frame(index, rgb, width, height):
    centre = (height // 2 * width + width // 2) * 3
    print(f"frame {index}: {width}x{height}, centre rgb {tuple(rgb[centre:centre + 3])}")


def cancel_after_first_step(job, progress):
    if progress.phase == PHASE_DENOISE and progress.step >= 1:
        job.cancel()


def main():
    if len(sys.argv) < 3:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    lib = load_library()
    params, engine, model = EngineParams(), ctypes.c_void_p(), ctypes.c_void_p()
    lib.prx_engine_default_params(ctypes.byref(params))
    settings = dict(pair.split("=", 1) for pair in sys.argv[3:])
    settings["prompt"] = sys.argv[2]
    try:
        if lib.prx_engine_open(ctypes.byref(engine), ctypes.byref(params)) < 0 or \
                lib.prx_model_open(ctypes.byref(model), engine, sys.argv[1].encode()) < 0:
            print("embed.py:", lib.prx_engine_last_error(engine).decode(), file=sys.stderr)
            return 1
        job = Job(lib, model, settings, on_frame=print_frame)
        try:
            job.run()
        finally:
            job.close()
        job = Job(lib, model, settings, on_progress=cancel_after_first_step)
        try:
            job.run()
            print("embed.py: the second job was not cancelled", file=sys.stderr)
            return 1
        except PraxinoError as error:
            if error.status != PRX_ECANCELED:
                raise
            print("second job: cancelled")
        finally:
            job.close()
    finally:
        lib.prx_model_close(ctypes.byref(model))
        lib.prx_engine_close(ctypes.byref(engine))
    return 0


if __name__ == "__main__":
    sys.exit(main())
