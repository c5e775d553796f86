"""A short convolution of language models against PyTorch and `lax.conv`, and its memory passes."""

import functools
import itertools

import jax
from jax import lax

from benchmarks.cpu.calls import WHAT, compiled_timer, normal, passes
from benchmarks.session import Session, using
from benchmarks.timing import compile_function
from dwconv_jax import ops
from dwconv_jax.aot.hlo import Program
from dwconv_jax.aot.traffic import memory_traffic

BATCH, LENGTH, CHANNELS, TAPS = 8, 2048, 1024, 4
DETAILS = {"batch": BATCH, "length": LENGTH, "channels": CHANNELS, "kernel": TAPS}
_ours = functools.partial(ops.causal_conv1d, activation="silu")


def short_convolution(run: Session) -> None:
    """Kernel 4 with bias and SiLU: 1,024 channels, 8 sequences of 2,048 tokens."""
    case = f"short convolution {TAPS}, {BATCH}x{LENGTH}x{CHANNELS}"
    inputs = normal(BATCH, LENGTH, CHANNELS), normal(TAPS, CHANNELS), normal(CHANNELS)
    for train in (False, True):
        details = DETAILS | {"train": train}
        call, arguments = passes(_ours, inputs, train)
        native = compiled_timer(*passes(_native, inputs, train))
        for lowering in run.lowerings():
            label = (case, WHAT[train], lowering)
            for name, layout in (("conv1d", {}), ("conv2d", {"channels_last": True})):
                against = f"PyTorch {name}"
                run.against_torch(label, call, arguments, "short_conv", details | layout, against)
            run.against(label, call, arguments, "lax.conv", native)
    for lowering, train in itertools.product(run.lowerings(), (False, True)):
        count = memory_passes(inputs, train, lowering)
        print(f"{case}, {WHAT[train]}, {lowering}: {count:.2f} memory passes over x")


def memory_passes(inputs: tuple[jax.Array, ...], train: bool, lowering: str) -> float:
    """Bytes that the compiled program reads and writes, over those of `x`."""
    call, arguments = passes(_ours, inputs, train)
    with using(lowering):
        compiled, _ = compile_function(call, *arguments)
    # As the compiler's own count, but that one leaves out the compiled kernel's arrays.
    return memory_traffic(Program(compiled.as_text())) / inputs[0].nbytes


def _native(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    y = lax.conv_general_dilated(
        x,
        kernel[:, None],
        window_strides=(1,),
        padding=((len(kernel) - 1, 0),),
        dimension_numbers=("NHC", "HIO", "NHC"),
        feature_group_count=x.shape[-1],
    )
    return jax.nn.silu(y + bias)
