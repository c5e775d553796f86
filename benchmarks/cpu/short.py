"""A short convolution of language models against PyTorch and `lax.conv`, and its memory passes."""

import functools
import itertools
import math
import re

import jax
from jax import lax

from benchmarks.cpu.calls import WHAT, compiled_timer, normal, passes
from benchmarks.session import Session, using
from benchmarks.timing import compile_function
from dwconv_jax import ops

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
        call, arguments = passes(_ours, inputs, train)
        with using(lowering):
            compiled, _ = compile_function(call, *arguments)
        count = memory_traffic(compiled) / inputs[0].nbytes
        print(f"{case}, {WHAT[train]}, {lowering}: {count:.2f} memory passes over x")


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


def memory_traffic(compiled: jax.stages.Compiled) -> float:
    """Bytes that a program reads and writes, by the compiler's count.

    The compiler counts nothing for calls of compiled kernels; here they read their operands and
    write their results once each.
    """
    text = compiled.as_text()
    types = dict(re.findall(r"(%\S+) = (\(.*?\)|\S+) ", text))
    calls = re.findall(r"(%\S+) = .* custom-call\((.*?)\), custom_call_target=.Dwconv", text)
    touched = [name for result, operands in calls for name in (result, *operands.split(", "))]
    return compiled.cost_analysis()["bytes accessed"] + sum(_bytes(types[name]) for name in touched)


def _bytes(types: str) -> int:
    """Bytes of the arrays in the text of an HLO type, such as `(f32[8,4]{1,0}, s32[8])`."""
    arrays = re.findall(r"[a-z]+(\d+)\[([\d,]*)\]", types)
    return sum(
        int(bits) // 8 * math.prod(map(int, filter(None, s.split(",")))) for bits, s in arrays
    )
