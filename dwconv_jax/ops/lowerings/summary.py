"""Says which lowerings are in use."""

import jax
import jax.numpy as jnp

from dwconv_jax.ops.lowerings.cpu import kernel as cpu_kernel


def describe_lowerings() -> dict[str, str | bool]:
    """What `locally_connected` does on the default platform, for float32.

    Returns:
      The platform; the lowerings of "depthwise" (sliding weights that positions share),
      "per_position" (sliding weights of their own) and "blocks" (windows and the whole map);
      whether the compiled kernel for CPU was built ("cpu_kernel"); and the strategies that
      `lowering="pallas"` covers on TPU ("pallas").
    """
    platform = jax.default_backend()
    if platform != "cpu":
        depthwise = "XLA's grouped convolution"
    elif cpu_kernel.is_usable(jnp.dtype(jnp.float32)):
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
    }
