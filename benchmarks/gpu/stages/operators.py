"""Operators in bfloat16 at the maps of the tiny models, as a share of the copy bandwidth."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from benchmarks.gpu import candidates, torch_peer
from benchmarks.gpu.issues import issue_13800, issue_26266
from benchmarks.gpu.programs import bilinear, both, ours, pytorch
from benchmarks.gpu.stages.case import Case, Settings
from benchmarks.stages import GROUPS, KERNEL, STAGES
from dwconv_jax import ops

Map = tuple[int, int]  # its side, and channels
WIDTH = 32  # of a head
_TAPS = 4  # of a short convolution


class Sizes(NamedTuple):
    """What to measure on.

    Attributes:
      batch: images.
      maps: of all operators.
      kernels: of depth-wise convolutions, in order of worth; others take the first.
      sequence: `[B, L, C]`, of short convolutions.
    """

    batch: int
    maps: Sequence[Map]
    kernels: Sequence[int]
    sequence: tuple[int, int, int]


_REAL = Sizes(128, STAGES, (KERNEL, 13, 3, 31), (8, 2048, 1024))
_TOY = Sizes(2, ((6, 32),), (3,), (2, 16, 32))


def cases(settings: Settings) -> Sequence[Case]:
    """Every operator, in order of worth."""
    sizes = _TOY if settings.dry_run else _REAL
    static = [functools.partial(_depthwise, kernel=kernel) for kernel in sizes.kernels]
    pooled = functools.partial(_depthwise, kernel=sizes.kernels[0], pooled=True)
    others: Sequence[Callable[[Map, Sizes, Settings], list[Case]]]
    others = (static[0], _neighborhoods, pooled, *static[1:], _windows, _centre)
    found = [case for make in others for each in sizes.maps for case in make(each, sizes, settings)]
    found += issue_13800(settings) + issue_26266(settings) + _short_convolution(sizes, settings)
    found.sort(key=lambda case: candidates.SHIFTED in case.name)  # last: they compile for long
    if torch_peer.has("torch", settings):
        return found
    return [c for c in found if "PyTorch" not in c.name] + [torch_peer.missing("torch", settings)]


def _depthwise(
    place: Map, sizes: Sizes, settings: Settings, *, kernel: int, pooled: bool = False
) -> list[Case]:
    size, channels = place
    kind, copies = ("pooled", sizes.batch) if pooled else ("static", 1)
    what = f"{kind} {kernel}x{kernel}, {size}x{size}x{channels}"
    x = (sizes.batch, size, size, channels)
    programs = bilinear(x, (copies, 1, 1, kernel**2, channels))
    found = candidates.depthwise(kernel)
    cases = [ours(f"{what}: {name}", mix, programs, settings) for name, mix in found.items()]
    if pooled:
        return cases
    compare = functools.partial(
        pytorch, programs=programs, settings=settings, case="convolution", shape=x,
        kernel=(kernel, kernel),
    )  # fmt: skip
    cases.append(compare(f"{what}: PyTorch"))
    if kernel == sizes.kernels[0]:
        cases.append(compare(f"{what}: PyTorch, compiled", compiled=True))
    return cases


def _centre(place: Map, sizes: Sizes, settings: Settings) -> list[Case]:
    (size, channels), kernel = place, sizes.kernels[0]
    weights = (sizes.batch, size**2, 1, kernel**2, min(GROUPS, channels))
    programs = bilinear((sizes.batch, size, size, channels), weights)
    what = f"centre {kernel}x{kernel}, {size}x{size}x{channels}"
    found = candidates.by_choice(ops.Sliding(kernel))
    return [ours(f"{what}: {name}", mix, programs, settings) for name, mix in found.items()]


def _neighborhoods(place: Map, sizes: Sizes, settings: Settings) -> list[Case]:
    shape, kernel = _with_heads(place, sizes), sizes.kernels[0]
    programs, name = both(shape, shape, shape), _attention_name("neighborhoods", shape, kernel)
    found = candidates.neighborhood_attention(kernel)
    peer: dict[str, Any] = dict(case="neighborhoods", shape=shape, kernel=kernel)
    return [
        *(ours(f"{name}: {how}", attend, programs, settings) for how, attend in found.items()),
        ours(f"{name}: all keys, cuDNN", _full_attention(settings), programs, settings),
        pytorch(f"{name}: PyTorch, flex_attention", programs, settings, **peer),
    ]


def _full_attention(settings: Settings) -> Any:
    how: Any = None if settings.dry_run else "cudnn"

    def attend(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        flat = (a.reshape(len(a), -1, *a.shape[-2:]) for a in (query, key, value))
        y = jax.nn.dot_product_attention(*flat, implementation=how)
        return y.reshape(query.shape)

    return attend


def _windows(place: Map, sizes: Sizes, settings: Settings) -> list[Case]:
    shape, kernel = _with_heads(place, sizes), sizes.kernels[0]
    programs, name = both(shape, shape, shape), _attention_name("windows", shape, kernel)
    compare = functools.partial(
        pytorch, programs=programs, settings=settings, case="windows", shape=shape, window=kernel
    )
    return [
        ours(f"{name}: ops", candidates.window_attention(kernel), programs, settings),
        compare(f"{name}: PyTorch, SDPA"),
        compare(f"{name}: PyTorch, SDPA, compiled", compiled=True),
    ]


def _with_heads(place: Map, sizes: Sizes) -> tuple[int, ...]:
    size, channels = place
    return (sizes.batch, size, size, channels // WIDTH, WIDTH)


def _attention_name(kind: str, shape: tuple[int, ...], kernel: int) -> str:
    return f"{kind} {kernel}x{kernel}, {shape[1]}x{shape[2]}, {shape[3]} heads"


def _short_convolution(sizes: Sizes, settings: Settings) -> list[Case]:
    shape = sizes.sequence
    programs = both(shape, (_TAPS, shape[-1]), shape[-1:])
    short = functools.partial(ops.causal_conv1d, activation="silu")
    name = f"short convolution {_TAPS}, {'x'.join(map(str, shape))}"
    peer: dict[str, Any] = dict(case="short_convolution", shape=shape, taps=_TAPS)
    return [
        ours(f"{name}: ops", short, programs, settings),
        pytorch(f"{name}: PyTorch", programs, settings, **peer),
    ]
