"""Draws what a position sees in each published network: python docs/figures/family.py.

The positions are those that the library's connectivities report, on a map of 12x12.
"""

from pathlib import Path

import numpy as np
from three_choices import BLUE, EMPTY, ORANGE, rect, text, write

from dwconv_jax import ops

SIDE, CELL = 12, 11  # positions along a map, pixels of a position
COLUMN, ROW, PER_ROW = 190, 196, 4
PALE = f"{BLUE}80"
BLOCK = 4  # side of windows, grids, blocks of queries and pooled keys

# Name, flags, connectivities (a second one in another color), query.
NETWORKS = (
    ("DWNet, ConvNeXt", "Sliding(7)", [ops.Sliding(7)], (5, 5)),
    ("EfficientNet", "Sliding(3), Sliding(5)", [ops.Sliding(3), ops.Sliding(5)], (5, 5)),
    ("Swin, Swin V2", "Window(4)", [ops.Window(BLOCK)], (5, 6)),
    ("... every second block", "Window(4, shift=2)", [ops.Window(BLOCK, 2)], (5, 6)),
    ("MaxViT", "Window(4), Grid(4)", [ops.Window(BLOCK), ops.Grid(BLOCK)], (5, 6)),
    ("NAT", 'Sliding(5, border="clamp")', [ops.Sliding(5, border="clamp")], (1, 6)),
    ("DiNAT", "dilation=2", [ops.Sliding(5, 2, border="clamp")], (5, 6)),
    ("HaloNet", "Sliding(6, stride=4)", [ops.Sliding(BLOCK + 2, stride=BLOCK)], (5, 6)),
    ("CSWin", "Window((None, 2)), ...", [ops.Window((None, 2)), ops.Window((2, None))], (5, 6)),
    ("UniFormer", "Sliding(5), then Global()", [ops.Sliding(5), ops.Global()], (5, 6)),
    ("PVT v2", "Global() over pooled keys", [], (5, 6)),
    ("MLP-Mixer, ViT", "Global()", [ops.Global()], (5, 6)),
)


def seen(connectivity, query):
    """The positions that a query sees, bool `[SIDE, SIDE]`."""
    outputs = connectivity.outputs(SIDE, SIDE)
    block, output = np.argwhere(outputs == query[0] * SIDE + query[1])[0]
    keys = connectivity.neighbours(SIDE, SIDE)[block, output]
    mask = np.zeros(SIDE * SIDE, bool)
    mask[keys[keys >= 0]] = True
    return mask.reshape(SIDE, SIDE)


def squares(left, top, mask, color):
    """The positions of a mask in one color."""
    side = CELL - 1.5
    square = f"h{side}v{side}h-{side}z"
    path = "".join(f"M{left + x * CELL} {top + y * CELL}{square}" for y, x in np.argwhere(mask))
    return f'<path d="{path}" fill="{color}"/>'


def draw_network(left, top, title, flags, connectivities, query):
    """A map with the query in orange and its keys in blue; what only the second has is paler."""
    colors = np.full((SIDE, SIDE), EMPTY, dtype=object)
    for connectivity, blue in [*zip(connectivities, (BLUE, PALE), strict=False)][::-1]:
        colors[seen(connectivity, query)] = blue
    colors[query] = ORANGE
    shapes = [squares(left, top, colors == color, color) for color in np.unique(colors)]
    if not connectivities:  # pooled keys, each the mean of a block
        side = BLOCK * CELL - 1.5
        shapes += [
            rect(left + x * CELL, top + y * CELL, side, side, PALE)
            for y in range(0, SIDE, BLOCK)
            for x in range(0, SIDE, BLOCK)
        ]
        shapes.append(squares(left, top, colors == ORANGE, ORANGE))
    center, bottom = left + SIDE * CELL / 2, top + SIDE * CELL
    shapes.append(text(center, bottom + 18, title, 14))
    shapes.append(text(center, bottom + 35, flags, 11, extra=' font-family="monospace"'))
    return shapes


def main() -> None:
    """Writes family.svg beside this file."""
    shapes = []
    for i, network in enumerate(NETWORKS):
        row, column = divmod(i, PER_ROW)
        shapes += draw_network(29 + column * COLUMN, 8 + row * ROW, *network)
    height = -(-len(NETWORKS) // PER_ROW) * ROW
    write(Path(__file__).with_suffix(".svg"), PER_ROW * COLUMN, height, shapes)


if __name__ == "__main__":
    main()
