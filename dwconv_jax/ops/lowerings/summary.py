"""Describes the lowerings in use."""

import jax

from dwconv_jax.ops.lowerings.cpu import kernel as cpu_kernel
from dwconv_jax.ops.lowerings.gpu import nvrtc

_CUDA = (
    "depthwise, and neighborhood attention over one or two axes with stride 1, without masks or "
    "cyclic borders, in heads of a multiple of 16 channels up to 128"
)
_WITHOUT_NVRTC = "nothing, XLA instead: NVRTC is not installed (pip install 'jax[cuda13]' has it)"


def describe_lowerings() -> dict[str, str | bool]:
    """Describes how `locally_connected` computes float32 on the default platform.

    Returns:
      "platform"; the lowerings of "depthwise" (sliding weights that positions share),
      "per_position" (sliding weights that differ at every position) and "blocks" (windows and the
      whole map); "cpu_kernel", whether the compiled kernel was built; "pallas" and "cuda", what
      `lowering="pallas"` covers on TPU and `lowering="cuda"` on NVIDIA GPUs; they refuse the rest.
    """
    platform = jax.default_backend()
    if platform != "cpu":
        depthwise = "XLA's grouped convolution"
    elif cpu_kernel.is_usable():
        depthwise = "compiled kernel"
    else:
        depthwise = "sums of shifted products"
    return {
        "platform": platform,
        "depthwise": depthwise,
        "per_position": "sums of shifted products",
        "blocks": "matrix products",
        "cpu_kernel": cpu_kernel.is_built(),
        "pallas": "depthwise, and per_position with dynamic weights",
        "cuda": _CUDA if nvrtc.is_available() else _WITHOUT_NVRTC,
    }
