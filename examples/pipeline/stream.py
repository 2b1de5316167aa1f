#!/usr/bin/env python3
"""Frames into another program while they are decoded, through ctypes: here raw RGB into ffmpeg, or a count of bytes without it.

    python3 examples/pipeline/stream.py models/tiny "a red ball bounces on a blue floor" ball.mp4 [KEY=VALUE ...]

PRAXINO_LIB names the library where the loader does not find it. A model that is open serves many clips: prompts may be several, separated
by `|`, and become ball-0.mp4, ball-1.mp4, ...
"""
import ctypes
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from embed import EngineParams, Job, PraxinoError, load_library  # noqa: E402  (examples/embed.py)


class Encoder:
    """ffmpeg at the end of a pipe; it starts with the first frame, when the size is known."""

    def __init__(self, path, fps):
        self.path, self.fps, self.process, self.frames = path, fps, None, 0

    def frame(self, _index, rgb, width, height):
        if self.process is None:
            self.process = subprocess.Popen(
                ["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(self.fps),
                 "-i", "-", "-pix_fmt", "yuv420p", self.path], stdin=subprocess.PIPE)
        self.process.stdin.write(rgb)
        self.frames += 1

    def close(self):
        if self.process:
            self.process.stdin.close()
            if self.process.wait() != 0:
                raise RuntimeError(f"ffmpeg failed on {self.path}")


def numbered(path, i, n):
    stem, ending = os.path.splitext(path)
    return path if n == 1 else f"{stem}-{i}{ending}"


def main():
    if len(sys.argv) < 4 or not shutil.which("ffmpeg"):
        print(__doc__.strip() if len(sys.argv) < 4 else "stream.py: ffmpeg is not installed", file=sys.stderr)
        return 2
    lib, params = load_library(), EngineParams()
    engine, model = ctypes.c_void_p(), ctypes.c_void_p()
    settings = dict(pair.split("=", 1) for pair in sys.argv[4:])
    prompts = sys.argv[2].split("|")
    lib.prx_engine_default_params(ctypes.byref(params))
    try:
        if lib.prx_engine_open(ctypes.byref(engine), ctypes.byref(params)) < 0 or \
                lib.prx_model_open(ctypes.byref(model), engine, sys.argv[1].encode()) < 0:
            print("stream.py:", lib.prx_engine_last_error(engine).decode(), file=sys.stderr)
            return 1
        for i, prompt in enumerate(prompts):
            encoder = Encoder(numbered(sys.argv[3], i, len(prompts)), settings.get("fps", 16))
            job = Job(lib, model, {**settings, "prompt": prompt.strip()}, on_frame=encoder.frame)
            try:
                job.run()
            finally:
                job.close()
                encoder.close()
            print(f"{encoder.path}: {encoder.frames} frames")
    except (PraxinoError, RuntimeError) as error:
        print("stream.py:", error, file=sys.stderr)
        return 1
    finally:
        lib.prx_model_close(ctypes.byref(model))
        lib.prx_engine_close(ctypes.byref(engine))
    return 0


if __name__ == "__main__":
    sys.exit(main())
