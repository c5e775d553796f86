"""Builds the optional compiled kernel; pyproject.toml states everything else."""

from glob import glob

from setuptools import Extension, setup

try:
    import jax.ffi

    include_dirs = [jax.ffi.include_dir()]
except ImportError:  # no FFI headers: skip the kernel, XLA does the same work
    include_dirs = []

cpu_kernel = Extension(
    "dwconv_jax.ops.lowerings.cpu._kernel",
    sources=sorted(glob("dwconv_jax/ops/lowerings/cpu/*.cc")),
    depends=sorted(glob("dwconv_jax/ops/lowerings/cpu/*.h")),
    include_dirs=include_dirs,
    extra_compile_args=["-std=c++17", "-O3", "-Wno-psabi"],
    language="c++",
    optional=True,
)

setup(ext_modules=[cpu_kernel] if include_dirs else [])
