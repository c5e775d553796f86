"""Depth-wise convolution as a function of its own."""

import functools

import jax

from dwconv_jax.ops.checks import check_map
from dwconv_jax.ops.connectivity import Border, Size, Sliding
from dwconv_jax.ops.dispatch import locally_connected


@functools.partial(jax.jit, static_argnames=("dilation", "border", "causal"))
def depthwise_conv(
    x: jax.Array,
    kernel: jax.Array,
    dilation: int | Size = 1,
    *,
    border: Border | tuple[Border, ...] = "zero",
    causal: bool | tuple[bool, ...] = False,
) -> jax.Array:
    """Convolves every channel with its own kernel, over one, two or three axes: same size.

    With zero borders and odd kernels it equals `lax.conv_general_dilated` with
    `feature_group_count=C` and stride 1, without its slow paths on CPU: kernels of any size,
    dilation and both gradients are fast.

    Args:
      x: `[B, *spatial, C]`.
      kernel: `[*kernel_size, C]`, not flipped: a cross-correlation, as in other neural network
        libraries. Even kernels have one tap more to the left.
      dilation: positions between taps, an int or one for each axis.
      border: what lies beyond the map; see `Sliding`.
      causal: whether positions see only themselves and those before them.

    Returns:
      `[B, *spatial, C]` in the common dtype of `x` and `kernel`; sums are float32 at least on CPU.

    Raises:
      ValueError: if the shapes do not fit, or an argument is illegal.
    """
    check_map(x, num_axes=None)
    if kernel.ndim != x.ndim - 1 or kernel.shape[-1] != x.shape[-1]:
        axes = ", ".join(("kd", "kh", "kw")[5 - x.ndim :])
        raise ValueError(f"kernel must be [{axes}, {x.shape[-1]}], got shape {kernel.shape}")
    connectivity = Sliding(kernel.shape[:-1], dilation, border=border, causal=causal)
    return locally_connected(x, kernel.reshape(1, 1, 1, -1, kernel.shape[-1]), connectivity)
