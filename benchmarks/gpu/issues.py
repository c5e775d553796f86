"""Two issues of JAX about grouped convolutions on GPUs, as operators to time."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax import lax

from benchmarks.gpu.programs import both, ours, pytorch
from benchmarks.gpu.stages.case import Case, Settings
from dwconv_jax import ops

_LAYERS, _TAPS = 12, 5


def issue_13800(settings: Settings) -> list[Case]:
    """https://github.com/jax-ml/jax/issues/13800: sequences through 12 depth-wise layers."""
    shape = (2, 16, 32) if settings.dry_run else (4, 256, 1024)
    channels = shape[-1]
    programs = both(shape, *((_TAPS, channels) for _ in range(_LAYERS)))
    name = f"issue 13800: {_LAYERS} layers, {'x'.join(map(str, shape))}"

    def native(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(
            x,
            kernel[:, None],
            window_strides=(1,),
            padding="SAME",
            dimension_numbers=("NHC", "HIO", "NHC"),
            feature_group_count=channels,
        )

    peer: dict[str, Any] = dict(case="sequence_layers", shape=shape, kernel=_TAPS, layers=_LAYERS)
    return [
        ours(f"{name}: ops", _stack(ops.depthwise_conv), programs, settings),
        ours(f"{name}: XLA convolution", _stack(native), programs, settings),
        pytorch(f"{name}: PyTorch", programs, settings, **peer),
    ]


def _stack(layer: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    return lambda x, *kernels: functools.reduce(layer, kernels, x)


def issue_26266(settings: Settings) -> list[Case]:
    """https://github.com/jax-ml/jax/issues/26266: a grouped dilated one is slower than a dense."""
    size, channels = (7, 32) if settings.dry_run else (56, 128)
    shape, kernel = (2 if settings.dry_run else 128, size, size, channels), (3, 3, channels)
    name = f"issue 26266: 3x3 dilated, {size}x{size}x{channels}"

    def convolve(x: jax.Array, kernel: jax.Array, groups: int) -> jax.Array:
        return lax.conv_general_dilated(
            x,
            kernel,
            window_strides=(1, 1),
            padding="SAME",
            rhs_dilation=(2, 2),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    def ours_dilated(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return ops.depthwise_conv(x, kernel, dilation=2)

    def grouped(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return convolve(x, kernel[:, :, None], channels)

    def dense(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return convolve(x, kernel, 1)

    programs = {"forward": both(shape, kernel)["forward"]}
    dense_programs = {"forward": both(shape, (*kernel, channels))["forward"]}
    peer: dict[str, Any] = dict(case="convolution", shape=shape, kernel=(3, 3), dilation=2)
    return [
        ours(f"{name}: ops", ours_dilated, programs, settings),
        ours(f"{name}: XLA convolution", grouped, programs, settings),
        ours(f"{name}: XLA convolution, dense", dense, dense_programs, settings),
        pytorch(f"{name}: PyTorch", programs, settings, **peer),
    ]
