"""The operator alone against PyTorch and `flax.nnx.Conv`: `python -m benchmarks.cpu.operators`."""

import argparse
import itertools

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.cpu import attention, dense_conv, growth, short
from benchmarks.cpu.calls import WHAT, compiled_timer, nnx_conv, normal, passes, torch_details
from benchmarks.session import Session, parser, session
from benchmarks.stages import GROUPS, KERNEL, STAGES, TAPS, weight_shape
from benchmarks.timing import Timer
from dwconv_jax import ops

BATCH = 8
HEADS = (3, 6, 12, 24)  # Swin's, stage by stage
CONNECTIVITY = ops.Sliding(KERNEL)


def mix(x: jax.Array, weights: jax.Array) -> jax.Array:
    """The operator at the models' kernel size."""
    return ops.locally_connected(x, weights, CONNECTIVITY)


def stages(run: Session, only: str) -> None:
    """Static, pooled and centre weights at the four stages of the models."""
    for dynamic, (size, channels) in itertools.product(("static", "pooled", "centre"), STAGES):
        case = f"{dynamic} {size}x{size}x{channels}"
        if only not in case:
            continue
        x = normal(BATCH, size, size, channels)
        weights = normal(*weight_shape(dynamic, BATCH, size, channels))
        details = torch_details(x, KERNEL)
        details |= {"groups": GROUPS} if dynamic == "centre" else {}
        lowerings = run.lowerings() if dynamic != "centre" else ["XLA"]
        for train, lowering in itertools.product((False, True), lowerings):
            label = (case, WHAT[train], lowering)
            call, arguments = passes(mix, (x, weights), train)
            run.against_torch(label, call, arguments, dynamic, details | {"train": train})
            if dynamic == "static":
                run.against(label, call, arguments, "nnx.Conv", time_nnx_conv(x, KERNEL, train))


def windows(run: Session) -> None:
    """7x7 windows, each with its own weights, against a plain einsum."""
    for (size, channels), heads in zip(STAGES, HEADS, strict=True):
        x = normal(BATCH, size, size, channels)
        weights = normal(BATCH, (size // KERNEL) ** 2, TAPS, TAPS, heads)
        for train in (False, True):
            label = (f"windows {size}x{size}x{channels}", WHAT[train], "XLA")
            peer = compiled_timer(*passes(window_einsum, (x, weights), train))
            call, arguments = passes(mix_windows, (x, weights), train)
            run.against(label, call, arguments, "einsum", peer)


def mix_windows(x: jax.Array, weights: jax.Array) -> jax.Array:
    """The operator on windows."""
    return ops.locally_connected(x, weights, ops.Window(KERNEL))


def window_einsum(x: jax.Array, weights: jax.Array) -> jax.Array:
    """`mix_windows` as a user would write it."""
    batch, size, _, channels = x.shape
    side, groups = size // KERNEL, weights.shape[-1]
    seen = x.reshape(batch, side, KERNEL, side, KERNEL, groups, channels // groups)
    weights = weights.reshape(batch, side, side, *(KERNEL,) * 4, groups)
    mixed = jnp.einsum("brsuvijg,brisjgc->brusvgc", weights, seen)
    return mixed.reshape(x.shape)


def time_nnx_conv(x: jax.Array, kernel: int, train: bool) -> Timer:
    """Times a depth-wise `flax.nnx.Conv` on `x`."""
    conv = nnx_conv(x, kernel, feature_group_count=x.shape[-1])
    return compiled_timer(*passes(*conv, train))


def issue_23713(run: Session) -> None:
    """jax issue 23713: 3x3, 256 channels, 124x124, one image."""
    x, kernel = normal(1, 124, 124, 256), normal(3, 3, 256)
    for train, lowering in itertools.product((False, True), run.lowerings()):
        label = ("issue 23713: 3x3, 124x124x256, 1 image", WHAT[train], lowering)
        call, arguments = passes(ops.depthwise_conv, (x, kernel), train)
        details = torch_details(x, 3) | {"train": train}
        run.against_torch(label, call, arguments, "static", details)
        run.against(label, call, arguments, "nnx.Conv", time_nnx_conv(x, 3, train))


def issue_13800(run: Session) -> None:
    """jax issue 13800: sequences of 1024 channels through 12 layers, forward and backward."""
    x, kernels = normal(4, 256, 1024), [normal(5, 1024) for _ in range(12)]

    def ours(x: jax.Array, *kernels: jax.Array) -> jax.Array:
        x = x[:, None]
        for kernel in kernels:
            x = ops.depthwise_conv(x, kernel[None])
        return x[:, 0]

    def native(x: jax.Array, *kernels: jax.Array) -> jax.Array:
        for kernel in kernels:
            x = lax.conv_general_dilated(
                x,
                kernel[:, None],
                window_strides=(1,),
                padding="SAME",
                dimension_numbers=("NHC", "HIO", "NHC"),
                feature_group_count=x.shape[-1],
            )
        return x

    peer = compiled_timer(*passes(native, (x, *kernels), train=True))
    call, arguments = passes(ours, (x, *kernels), train=True)
    details = {"batch": 4, "length": 256, "channels": 1024, "kernel": 5, "layers": 12}
    for lowering in run.lowerings():
        label = ("issue 13800: 1-D, 1024 channels, 12 layers", WHAT[True], lowering)
        run.against_torch(label, call, arguments, "sequence_layers", details | {"train": True})
        run.against(label, call, arguments, "lax.conv", peer)


def issue_26266(run: Session) -> None:
    """jax issue 26266: a grouped dilated convolution, which XLA runs slower than a dense one."""
    x, kernel, dense = normal(BATCH, 56, 56, 128), normal(3, 3, 128), normal(3, 3, 128, 128)

    def dense_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(
            x,
            kernel,
            window_strides=(1, 1),
            padding="SAME",
            rhs_dilation=(2, 2),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    def ours(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return ops.depthwise_conv(x, kernel, dilation=2)

    peer = compiled_timer(dense_conv, (x, dense))
    for lowering in run.lowerings():
        label = ("issue 26266: 3x3 dilated by 2, 56x56x128", WHAT[False], lowering)
        details = torch_details(x, 3, dilation=2) | {"train": False}
        run.against_torch(label, ours, (x, kernel), "static", details)
        run.against(label, ours, (x, kernel), "dense lax.conv", peer)


def cost_growth(run: Session) -> None:
    """Cost over the size of the map and of the kernel, 96 channels, one image."""
    for size, kernel in growth.CASES:
        x, taps = normal(1, size, size, 96), normal(kernel, kernel, 96)
        call, arguments = passes(ops.depthwise_conv, (x, taps), train=True)
        case = growth.case_name(size, kernel)
        for lowering in run.lowerings():
            details = torch_details(x, kernel) | {"train": True}
            run.against_torch((case, WHAT[True], lowering), call, arguments, "static", details)
        conv = time_nnx_conv(x, kernel, train=True)
        run.against((case, WHAT[True], "XLA"), call, arguments, "nnx.Conv", conv)
    growth.draw(run.output.with_name(f"{run.output.name}_growth.png"), run.rows)


CASES = {
    "attention": attention.measure,
    "dense convolution": dense_conv.measure,
    "windows": windows,
    "issue 23713": issue_23713,
    "short convolution": short.short_convolution,
    "short, issue 13800": issue_13800,
    "short, issue 26266": issue_26266,
    "growth": cost_growth,
}


def main(options: argparse.Namespace) -> None:
    """Measures what `--only` selects."""
    with session("Operators, float32", options) as run:
        stages(run, options.only)
        for name, measure in CASES.items():
            if options.only in name:
                measure(run)


if __name__ == "__main__":
    main(parser(__doc__, "operators").parse_args())
