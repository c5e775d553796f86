"""Dense 3x3 convolutions, as the models compute them, against `nnx.Conv` and PyTorch."""

import itertools

from benchmarks.cpu.calls import WHAT, compiled_timer, nnx_conv, normal, passes, torch_details
from benchmarks.session import Session
from dwconv_jax.layers.convolution import convolve

BATCH = 8
KERNEL = 3
# HaloNet's stem, a ResNet's stages, a detector's finest map.
MAPS = ((112, 32), (56, 64), (28, 128), (14, 256), (56, 256))


def measure(run: Session) -> None:
    """A row for each map, pass and peer."""
    for (size, channels), train in itertools.product(MAPS, (False, True)):
        x = normal(BATCH, size, size, channels)
        label = (f"dense 3x3 {size}x{size}x{channels}", WHAT[train], "XLA")
        call, arguments = passes(*nnx_conv(x, KERNEL, conv_general_dilated=convolve), train)
        details = torch_details(x, KERNEL) | {"groups": 1, "train": train}
        run.against_torch(label, call, arguments, "static", details)
        native = compiled_timer(*passes(*nnx_conv(x, KERNEL), train))
        run.against(label, call, arguments, "nnx.Conv", native)
