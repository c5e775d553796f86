"""Devices to compile for without hardware: TPU slices, H100s, virtual CPU devices."""

import importlib.util
import os
import re

import jax
from jax.experimental import topologies

from dwconv_jax.errors import MissingPackageError, UserError

# The resources of one H100 SXM, which XLA otherwise asks the driver for.
_H100 = """
gpu_device_info {
  cuda_compute_capability { major: 9 }
  clock_rate_ghz: 1.98
  core_count: 132
  fpus_per_core: 128
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  registers_per_block_limit: 65536
  registers_per_core_limit: 65536
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  l2_cache_size: 52428800
  memory_bandwidth: 3352320000000
  device_memory_size: 84942979072
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
runtime_version { major: 13 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
_GPUS_OF_A_HOST = 8
# Without these, libtpu asks Google's metadata server about the machine and locks the TPU.
_NO_TPU_MACHINE = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
}
_TPUS = ("v4", "v5e", "v5p", "v6e")
FAMILIES = (*_TPUS, "h100", "cpu")
_EXAMPLES = "'v5e:16x16', 'v4:2x2x2', 'v5p:2x2x1', 'v6e:4x4', 'h100:8' or 'cpu:8'"


def family(topology: str) -> str:
    """Returns the name before the colon; raises a UserError if it is not one of `FAMILIES`."""
    name, colon, _ = topology.partition(":")
    if name not in FAMILIES or not colon:
        raise UserError(f"topology={topology!r} is unknown; legal are names like {_EXAMPLES}")
    return name


def compiler_options(topology: str) -> dict[str, bool]:
    """Returns XLA's options for compiling without the hardware.

    XLA chooses among its own GPU matrix kernels by timing them. Without a GPU it may choose one
    that it cannot compile, so cuBLAS is used instead.
    """
    return {"xla_gpu_enable_triton_gemm": False} if family(topology) == "h100" else {}


def abstract_devices(topology: str) -> list[jax.Device]:
    """Returns the devices of a topology to build a mesh and to compile for, without hardware.

    Call it before anything else asks JAX for devices, with `jax_platforms` set to "cpu".

    Args:
      topology: "v4:AxBxC", "v5p:AxBxC", "v5e:AxB" or "v6e:AxB", chips of a TPU slice; "h100:N",
        where 8 share a host; "cpu:N".

    Returns:
      One device per chip, GPU or virtual CPU device.

    Raises:
      UserError: if there is no such topology.
      MissingPackageError: if the compiler for it is not installed.
    """
    name, size = family(topology), topology.partition(":")[2]
    if name in _TPUS:
        return _tpu_slice(name, topology)
    if not re.fullmatch("[1-9][0-9]*", size):
        raise UserError(f"topology={topology!r} must be '{name}:N' with N devices")
    return _h100s(int(size)) if name == "h100" else _processors(int(size))


def _tpu_slice(name: str, topology: str) -> list[jax.Device]:
    if importlib.util.find_spec("libtpu") is None:
        raise MissingPackageError(f"topology={topology!r} needs libtpu: pip install libtpu")
    for variable, value in _NO_TPU_MACHINE.items():
        os.environ.setdefault(variable, value)
    # JAX shows the two cores of a v4 chip as one device.
    options = {"chip_config_name": "megacore"} if name == "v4" else {}
    try:
        slice_ = topologies.get_topology_desc(topology, platform="tpu", **options)
    except jax.errors.JaxRuntimeError as error:
        raise UserError(f"topology={topology!r} is no TPU slice: {error}") from error
    return list(slice_.devices)


def _h100s(count: int) -> list[jax.Device]:
    hosts, rest = divmod(count, _GPUS_OF_A_HOST)
    if hosts and rest:
        raise UserError(f"topology='h100:{count}' must be at most 8 GPUs, or a multiple of 8")
    shape = f"1x{max(hosts, 1)}x{_GPUS_OF_A_HOST if hosts else count}"  # slices, hosts, GPUs
    try:
        return list(
            topologies.get_topology_desc(
                platform="cuda", topology=shape, target_config=_H100
            ).devices
        )
    except NotImplementedError as error:
        raise MissingPackageError(
            f"topology='h100:{count}' needs JAX's CUDA plugin: "
            f"pip install 'jax-cuda13-plugin[with-cuda]=={jax.__version__}'"
        ) from error


def _processors(count: int) -> list[jax.Device]:
    try:
        jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError as error:  # JAX has already created its devices
        if len(jax.devices("cpu")) < count:
            raise UserError(
                f"topology='cpu:{count}' exceeds the {len(jax.devices('cpu'))} devices that this "
                "process has; set JAX_NUM_CPU_DEVICES before it starts"
            ) from error
    return jax.devices("cpu")[:count]
