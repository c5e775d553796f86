"""Compiles CUDA C++ to PTX by NVRTC, which JAX's CUDA packages install and which needs no GPU."""

import ctypes
import functools
import glob
import itertools
import os
import sys
from collections.abc import Iterator

# Code for all GPUs since Ampere; the driver translates it for the GPU.
_ARCHITECTURE = "compute_80"
# NVRTC may be newer than the driver, which then refuses the PTX though it needs nothing new: every
# instruction used is in this version, of CUDA 11.8.
_PTX_VERSION = ".version 7.8"


@functools.cache
def is_available() -> bool:
    """Whether NVRTC is installed."""
    return _library() is not None


@functools.cache
def compile_ptx(path: str, definitions: tuple[str, ...]) -> str:
    """Compiles a source file.

    Args:
      path: the file; it includes files beside it.
      definitions: options that define macros, "-DNAME=VALUE".

    Returns:
      PTX for GPUs of compute capability 8.0 and later.

    Raises:
      RuntimeError: with the compiler's log.
    """
    with open(path, "rb") as file:
        source = file.read()
    program = _Program(source, os.path.basename(path))
    try:
        program.compile(
            f"--gpu-architecture={_ARCHITECTURE}",
            "--std=c++17",
            f"--include-path={os.path.dirname(path)}",
            *definitions,
        )
        lines = program.ptx().splitlines()
    finally:
        program.destroy()
    lines = [_PTX_VERSION if line.startswith(".version") else line for line in lines]
    return "\n".join(line for line in lines if not line.startswith("//"))


class _Program:
    """A program of NVRTC."""

    def __init__(self, source: bytes, name: str):
        library = _library()
        if library is None:
            raise RuntimeError("NVRTC is not installed")
        self._library, self._handle = library, ctypes.c_void_p()
        handle = ctypes.byref(self._handle)
        self._call("nvrtcCreateProgram", handle, source, name.encode(), 0, None, None)

    def compile(self, *options: str) -> None:
        encoded = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        self._call("nvrtcCompileProgram", self._handle, len(options), encoded)

    def ptx(self) -> str:
        return self._text("PTX")

    def destroy(self) -> None:
        self._library.nvrtcDestroyProgram(ctypes.byref(self._handle))

    def _call(self, function: str, *arguments: object) -> None:
        if status := getattr(self._library, function)(*arguments):
            log = self._text("ProgramLog") if function == "nvrtcCompileProgram" else ""
            raise RuntimeError(f"{function} failed with status {status}\n{log}")

    def _text(self, what: str) -> str:
        size = ctypes.c_size_t()
        self._call(f"nvrtcGet{what}Size", self._handle, ctypes.byref(size))
        text = ctypes.create_string_buffer(size.value)
        self._call(f"nvrtcGet{what}", self._handle, text)
        return text.value.decode()


@functools.cache
def _library() -> ctypes.CDLL | None:
    for path in _candidates():
        try:
            # NVRTC opens a second library by name, and finds it where it is already loaded.
            for part in glob.glob(os.path.join(os.path.dirname(path), "libnvrtc-builtins.so.*")):
                ctypes.CDLL(part, mode=ctypes.RTLD_GLOBAL)
            return ctypes.CDLL(path)
        except OSError:
            continue
    return None


def _candidates() -> Iterator[str]:
    """Where NVRTC may be: NVIDIA's Python packages, CUDA's toolkit, the loader's path."""
    places = itertools.chain(
        (os.path.join(folder, "nvidia", "*", "lib") for folder in sys.path),
        ["/usr/local/cuda*/lib64"],
    )
    for place in places:
        yield from sorted(glob.glob(os.path.join(place, "libnvrtc.so.*")), reverse=True)
    yield from ("libnvrtc.so.13", "libnvrtc.so.12")
