"""Dense 3x3 convolutions, as the models compute them, against `nnx.Conv` and PyTorch."""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from benchmarks.cpu.calls import WHAT, compiled_timer, normal, passes
from benchmarks.session import Session
from dwconv_jax.layers.convolution import convolve

BATCH = 8
MAPS = ((56, 64), (28, 128), (14, 256), (56, 256))  # a ResNet's, and a detector's finest


def measure(run: Session) -> None:
    """A row for each map, pass and peer."""
    for size, channels in MAPS:
        x = normal(BATCH, size, size, channels)
        details: dict[str, Any] = dict(
            batch=BATCH, height=size, width=size, channels=channels,
            kernel=(3, 3), dilation=(1, 1), groups=1,
        )  # fmt: skip
        for train in (False, True):
            label = (f"dense 3x3 {size}x{size}x{channels}", WHAT[train], "XLA")
            call, arguments = passes(*_conv(x, conv_general_dilated=convolve), train)
            run.against_torch(label, call, arguments, "static", details | {"train": train})
            native = compiled_timer(*passes(*_conv(x), train))
            run.against(label, call, arguments, "nnx.Conv", native)


def _conv(
    x: jax.Array, **options: Any
) -> tuple[Callable[[jax.Array, nnx.State], jax.Array], tuple[jax.Array, nnx.State]]:
    channels = x.shape[-1]
    conv = nnx.Conv(channels, channels, (3, 3), use_bias=False, rngs=nnx.Rngs(0), **options)
    graph, state = nnx.split(conv)
    return lambda x, state: nnx.merge(graph, state)(x), (x, state)
