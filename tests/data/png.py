"""Writes PNG files of every kind; Pillow cannot write all of them."""

import struct
import zlib

import numpy as np

GRAY, RGB, PALETTE, GRAY_ALPHA, RGBA = 0, 2, 3, 4, 6
_CHANNELS = {GRAY: 1, RGB: 3, PALETTE: 1, GRAY_ALPHA: 2, RGBA: 4}


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def header(height: int, width: int, depth: int, color_type: int) -> bytes:
    """The signature and the first chunk of a PNG."""
    fields = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", fields)


def claim(height: int, width: int, depth: int, color_type: int) -> bytes:
    """A PNG that claims a size and breaks off before the pixels."""
    return header(height, width, depth, color_type) + chunk(b"IDAT", b"")


def encode_png(values: np.ndarray, depth: int, color_type: int) -> bytes:
    """Encodes values, int `[height, width]`, the same for every channel.

    The palette has a color for each index, but indices 2i and 2i + 1 have the same one.
    """
    height, width = values.shape
    samples = np.repeat(values[..., None], _CHANNELS[color_type], -1).reshape(height, -1)
    places = np.arange(depth)[::-1]
    bits = (samples[..., None] >> places & 1).reshape(height, -1).astype(np.uint8)
    rows = np.packbits(bits, axis=-1)
    data = np.concatenate([np.zeros((height, 1), np.uint8), rows], -1).tobytes()
    palette = b""
    if color_type == PALETTE:
        colors = [(i // 2 * 2 % 256, 7, 255 - i // 2) for i in range(2**depth)]
        palette = chunk(b"PLTE", np.array(colors, np.uint8).tobytes())
    return (
        header(height, width, depth, color_type)
        + palette
        + chunk(b"IDAT", zlib.compress(data))
        + chunk(b"IEND", b"")
    )
