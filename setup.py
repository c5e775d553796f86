"""The optional compiled kernel; everything else is in pyproject.toml."""

from setuptools import Extension, setup

try:
    import jax.ffi

    include_dirs = [jax.ffi.include_dir()]
except ImportError:  # without the headers there is nothing to build, and nothing that needs it
    include_dirs = []

cpu_kernel = Extension(
    "dwconv_jax.ops.lowerings.cpu._kernel",
    sources=["dwconv_jax/ops/lowerings/cpu/kernel.cc"],
    include_dirs=include_dirs,
    extra_compile_args=["-std=c++17", "-O3"],
    language="c++",
    optional=True,
)

setup(ext_modules=[cpu_kernel] if include_dirs else [])
