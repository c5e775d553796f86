"""Converts between the layout of maps in TPU programs and rows of positions per channel.

XLA lays out maps with channels in the lanes and images in the sublanes if channels fill the lanes,
and with images in the lanes otherwise. Kernels read and write both. They work on *rows*:
`[positions, 128 images]` of one channel, loaded and stored with a stride from a scratch array of
32-bit words. A word is one float32 or a pair of bfloat16 positions, as in a register. The stride is
odd, to avoid conflicts between memory banks.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from dwconv_jax.errors import UserError
from dwconv_jax.ops.lowerings.tpu.platform import fast_memory
from dwconv_jax.ops.lowerings.tpu.toeplitz import LANES, Plan

_BLOCK_BYTES = 2**21  # limit of a block, unless the smallest block is larger
_MOST_CHANNELS = 64  # in a block with images in the lanes
_WORDS_TOGETHER = 128
_DTYPES = (jnp.dtype(jnp.float32), jnp.dtype(jnp.bfloat16))


def check_dtype(dtype: jnp.dtype) -> None:
    """Raises UserError for a dtype that the kernels do not take."""
    if dtype not in _DTYPES:
        legal = " or ".join(map(str, _DTYPES))
        raise UserError(f"lowering='pallas' takes {legal}, got {dtype}")


def check_memory(needed: int, kept: str, shape: tuple[int, ...], dtype: jnp.dtype) -> None:
    """Raises UserError if a kernel for maps of that shape needs too much fast memory."""
    if needed > (there := fast_memory()):
        raise UserError(
            f"lowering='pallas' keeps {kept} in fast memory, {there >> 20} MiB of it; maps "
            f"{dtype}[{shape[1]}, {shape[2]}] need {needed >> 20} MiB; use lowering='auto'"
        )


@dataclasses.dataclass(frozen=True)
class MapLayout:
    """How a kernel sees maps `[B, H, W, C]`: in blocks of `[H * W, B, C]` or `[H * W, C, B]`.

    The batch is padded to a multiple of 128. A block holds all positions of some channels of 128
    images.
    """

    shape: tuple[int, ...]
    dtype: jnp.dtype

    def __post_init__(self) -> None:
        """Raises UserError if the kernels do not take the dtype or the maps are too large."""
        check_dtype(self.dtype)
        # At least one map in and one out, double-buffered.
        check_memory(4 * self._block_bytes, "whole maps", self.shape, self.dtype)

    @property
    def channels_in_lanes(self) -> bool:
        """Whether channels are in the lanes, as in XLA's layout."""
        return self.shape[-1] % LANES == 0

    @property
    def pack(self) -> int:
        """Positions per word."""
        return 4 // self.dtype.itemsize

    @property
    def channels(self) -> int:
        """Channels in a block."""
        if self.channels_in_lanes:
            return LANES
        bytes_of_channel = math.prod(self.shape[1:3]) * LANES * self.dtype.itemsize
        fit = _BLOCK_BYTES // bytes_of_channel
        needed = -(-self.shape[-1] // 16)
        return 16 * max(1, min(fit // 16, needed, _MOST_CHANNELS // 16))

    @property
    def grid(self) -> tuple[int, int]:
        """The number of blocks of images and of channels."""
        return pl.cdiv(self.shape[0], LANES), pl.cdiv(self.shape[-1], self.channels)

    @property
    def array(self) -> jax.ShapeDtypeStruct:
        """Shape and dtype of a map in the kernel's layout."""
        _, height, width, channels = self.shape
        sizes = (self.grid[0] * LANES, channels)
        sizes = sizes if self.channels_in_lanes else sizes[::-1]
        return jax.ShapeDtypeStruct((height * width, *sizes), self.dtype)

    def block_spec(self) -> pl.BlockSpec:
        """The blocks of a map."""
        positions = self.shape[1] * self.shape[2]
        if self.channels_in_lanes:
            return pl.BlockSpec(
                (positions, LANES, LANES), lambda images, channels: (0, images, channels)
            )
        return pl.BlockSpec(
            (positions, self.channels, LANES), lambda images, channels: (0, channels, images)
        )

    def parameter_spec(self, parameter: jax.Array) -> pl.BlockSpec:
        """Blocks of channels for an array `[C, ., .]`, the whole array for any other."""
        if parameter.shape[0] == self.shape[-1]:
            block = (self.channels, *parameter.shape[1:])
            return pl.BlockSpec(block, lambda images, channels: (channels, 0, 0))
        return pl.BlockSpec(parameter.shape, lambda images, channels: (0, 0, 0))

    def enter(self, x: jax.Array) -> jax.Array:
        """Lays out `[B, H, W, C]` as `array`; moves no data if XLA has the same layout."""
        batch = x.shape[0]
        x = jnp.pad(x, ((0, self.grid[0] * LANES - batch), (0, 0), (0, 0), (0, 0)))
        order = (1, 2, 0, 3) if self.channels_in_lanes else (1, 2, 3, 0)
        return x.transpose(order).reshape(self.array.shape)

    def leave(self, y: jax.Array) -> jax.Array:
        """Inverts `enter`."""
        y = y.reshape(*self.shape[1:3], *y.shape[1:])
        y = y.transpose((2, 0, 1, 3) if self.channels_in_lanes else (3, 0, 1, 2))
        return y[: self.shape[0]]

    def rows_scratch(self, plan: Plan) -> Any:
        """Scratch memory for the rows of a block's channels, tile after tile."""
        words = len(plan.tiles) * plan.lines * plan.line_length // self.pack
        return pltpu.VMEM((words * self.stride, LANES), jnp.uint32)

    @property
    def stride(self) -> int:
        """Words from a position of a channel (or pair of them) to the next."""
        return self.channels + 1

    def load_rows(self, ref, channel: jax.Array, start: int, count: int) -> jax.Array:
        """Loads positions `start ... start + count - 1` of a channel: `[count, 128]`."""
        words = ref[self._words(channel, start, count), :]
        return pltpu.bitcast(words, self.dtype)

    def store_rows(self, ref, channel: jax.Array, start: int, rows: jax.Array) -> None:
        """Stores `[count, 128]` to positions from `start` on."""
        words = self._words(channel, start, rows.shape[0])
        ref[words, :] = pltpu.bitcast(rows.astype(self.dtype), jnp.uint32)

    def _words(self, channel: jax.Array, start: int, count: int) -> Any:
        first = start // self.pack * self.stride + channel
        return pl.ds(first, count // self.pack, stride=self.stride)

    def compiler_params(self, maps: int, scratch: list[Any]) -> pltpu.CompilerParams:
        """Compiler parameters for double-buffered blocks of `maps` maps and scratch arrays.

        Raises:
          UserError: if fast memory cannot hold them.
        """
        own = sum(math.prod(s.shape) * jnp.dtype(s.dtype).itemsize for s in scratch)
        needed = 2 * maps * self._block_bytes + own
        check_memory(needed, "whole maps", self.shape, self.dtype)
        return pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel"), vmem_limit_bytes=fast_memory()
        )

    @property
    def _block_bytes(self) -> int:
        return math.prod(self.shape[1:3]) * self.channels * LANES * self.dtype.itemsize


def read_rows(plan: Plan, layout: MapLayout, map_ref, rows_ref, owned: bool) -> None:
    """Copies a block of maps into rows; zeros padding and, if `owned`, other tiles' outputs."""

    def read_line(line: jax.Array, _: None) -> None:
        for word, places in _words_of_line(plan, layout, line, owned):
            halves = [
                _to_word(map_ref[place], half, layout)
                for half, place in enumerate(places)
                if place is not None
            ]
            words = functools.reduce(jnp.bitwise_or, halves) if halves else None
            rows_ref[pl.ds(word, layout.channels), :] = (
                jnp.zeros((layout.channels, LANES), jnp.uint32)
                if words is None
                else _turn(words, layout)
            )

    lax.fori_loop(0, plan.lines, read_line, None, unroll=_lines_together(plan, layout))


def write_rows(plan: Plan, layout: MapLayout, rows_ref, map_ref) -> None:
    """Copies rows to their places in a block of maps."""

    def write_line(line: jax.Array, _: None) -> None:
        for word, places in _words_of_line(plan, layout, line, owned=True):
            words = _turn(rows_ref[pl.ds(word, layout.channels), :], layout)
            for half, place in enumerate(places):
                if place is not None:
                    map_ref[place] = _from_word(words, half, layout)

    lax.fori_loop(0, plan.lines, write_line, None, unroll=_lines_together(plan, layout))


def _lines_together(plan: Plan, layout: MapLayout) -> int:
    """Lines in one step of a loop, so that the latency of one hides behind others' work."""
    words = len(plan.tiles) * plan.line_length // layout.pack
    fit = (n for n in range(1, plan.lines + 1) if plan.lines % n == 0)
    return max((n for n in fit if n * words <= _WORDS_TOGETHER), default=1)


def _words_of_line(
    plan: Plan, layout: MapLayout, line: jax.Array, owned: bool
) -> Iterator[tuple[jax.Array, list[jax.Array | None]]]:
    """The start of each word of a line, and the positions of the map that it holds."""
    for tile, span in enumerate(plan.tiles):
        columns = plan.columns(span, owned)
        start = (tile * plan.lines + line) * (plan.line_length // layout.pack)
        for i in range(0, len(columns), layout.pack):
            places = [
                None if column is None else line * plan.map_size[1] + column
                for column in columns[i : i + layout.pack]
            ]
            yield (start + i // layout.pack) * layout.stride, places


def _to_word(values: jax.Array, half: int, layout: MapLayout) -> jax.Array:
    """Puts values into their half of a word: bfloat16 is the upper half of a float32."""
    bits = lax.bitcast_convert_type(values.astype(jnp.float32), jnp.uint32)
    return bits >> 16 if half < layout.pack - 1 else bits


def _from_word(words: jax.Array, half: int, layout: MapLayout) -> jax.Array:
    if layout.pack == 2:
        words = words & jnp.uint32(0xFFFF0000) if half else words << 16
    return lax.bitcast_convert_type(words, jnp.float32).astype(layout.dtype)


def _turn(words: jax.Array, layout: MapLayout) -> jax.Array:
    """Converts between the map's order of channels and images and `[channels, 128 images]`."""
    if not layout.channels_in_lanes:
        return words
    turned = lax.bitcast_convert_type(words, jnp.float32).T
    return lax.bitcast_convert_type(turned, jnp.uint32)
