"""Draws the three choices: python docs/figures/three_choices.py.

Colors are mid-tones on a transparent ground, so that the figure reads on white and dark pages.
"""

from pathlib import Path

import numpy as np

TEXT = "#737b85"
EMPTY = "#8a929d38"
BLUE, ORANGE, GREEN = "#3b8eea", "#ef7d22", "#2aa876"
SUNSET = ("#3b8eea", "#8a5cd6", "#2fb58c", "#f0843a")  # colors of a map's corners
MEADOW = ("#d6457f", "#f2b134", "#5a63d8", "#35b9c4")

SIDE, CELL = 8, 13  # positions along a map, pixels of a position
MAP = SIDE * CELL
COLUMNS = (43, 233, 423, 613)
WIDTH, ROW = 760, 214
SMALL = 6  # positions along the maps of two images
HEIGHT = 28 + 2 * ROW + 148

QUERY = (3, 2)  # the position whose neighborhood is shown


def rect(left, top, width, height, fill, extra=""):
    """A rounded rectangle."""
    place = f'x="{left}" y="{top}" width="{width}" height="{height}"'
    return f'<rect {place} rx="2" fill="{fill}"{extra}/>'


def text(left, top, words, size, anchor="middle", extra=""):
    """A line of text whose baseline is at `top`."""
    style = f'font-size="{size}" text-anchor="{anchor}"{extra}'
    return f'<text x="{left}" y="{top}" {style}>{words}</text>'


def heading(top, title, question):
    """The name of a choice and its question."""
    return [
        text(12, top, title, 17, "start", ' font-weight="600"'),
        text(WIDTH - 12, top, question, 15, "end"),
    ]


def caption(left, top, title, argument):
    """What a map shows, and the argument that asks for it."""
    center = left + MAP / 2
    return [
        text(center, top, title, 14),
        text(center, top + 18, argument, 12, extra=' font-family="monospace"'),
    ]


def draw_map(left, top, colors):
    """A `[height, width]` map of colors whose upper left corner is at `(left, top)`."""
    return [
        rect(left + column * CELL, top + row * CELL, CELL - 1.5, CELL - 1.5, color)
        for (row, column), color in np.ndenumerate(colors)
    ]


def solid(color, size=SIDE):
    """One color for all positions."""
    return np.full((size, size), color, dtype=object)


def distinct(corners, size=SIDE):
    """A color of its own for each position, interpolated between those of the corners."""
    red_green_blue = [[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in corners]
    share = np.linspace(0, 1, size)
    share = np.stack([1 - share, share])
    colors = np.einsum("ah,bw,abc->hwc", share, share, np.reshape(red_green_blue, (2, 2, 3)))
    names = ["#{:02x}{:02x}{:02x}".format(*c) for c in colors.round().astype(int).reshape(-1, 3)]
    return np.reshape(np.array(names, dtype=object), (size, size))


def neighborhood(rows, columns):
    """The positions that `QUERY` sees."""
    colors = solid(EMPTY)
    colors[np.ix_(rows, columns)] = BLUE
    colors[QUERY] = ORANGE
    return colors


def attention(seed):
    """The weights that a query gives to the positions of its window, as opacity."""
    weights = np.exp(np.random.default_rng(seed).normal(size=(3, 3)))
    colors = solid(EMPTY, SMALL)
    for position, weight in np.ndenumerate(weights / weights.max()):
        colors[position] = f"{BLUE}{round(80 + 175 * weight):02x}"
    colors[1, 1] = ORANGE
    return colors


def draw_connectivity(top):
    """A position in orange, and the positions that it sees in blue."""
    maps = (
        ("sliding kernel", '"sliding"', neighborhood(range(1, 6), range(5))),
        ("dilated kernel", '"sliding", dilation=2', neighborhood((1, 3, 5), (0, 2, 4))),
        ("window", '"window"', neighborhood(range(4), range(4))),
        ("whole map", '"global"', neighborhood(range(SIDE), range(SIDE))),
    )
    shapes = heading(top, "Sparse connectivity", "Which positions does a position see?")
    for left, (title, argument, colors) in zip(COLUMNS, maps, strict=True):
        shapes += draw_map(left, top + 20, colors) + caption(left, top + 146, title, argument)
    return shapes


def draw_sharing(top):
    """Equal colors share their weights: positions first, then channels."""
    maps = (
        ("all positions", "share_positions=True", solid(BLUE)),
        ("same place of each window", '"window"', np.tile(distinct(SUNSET, 4), (2, 2))),
        ("no two positions", "share_positions=False", distinct(SUNSET)),
    )
    shapes = heading(top, "Weight sharing", "Who uses the same weights?")
    for left, (title, argument, colors) in zip(COLUMNS, maps, strict=False):
        shapes += draw_map(left, top + 20, colors) + caption(left, top + 146, title, argument)
    for channel, color in enumerate(2 * (BLUE,) + 2 * (ORANGE,) + 2 * (GREEN,)):
        left, sheet_top = COLUMNS[3] + 6 * channel, top + 20 + 6 * channel
        shapes.append(rect(left, sheet_top, MAP - 30, MAP - 30, color, ' stroke="#e8ebef"'))
    return shapes + caption(COLUMNS[3], top + 146, "channels of a group", "groups=3")


def draw_dynamic(top):
    """Two images beside each other. Equal colors share their weights."""
    blue, green = solid(BLUE, SMALL), solid(GREEN, SMALL)
    predicted = distinct(SUNSET, SMALL), distinct(MEADOW, SMALL)
    maps = (
        ("parameters", '"none"', blue, blue),
        ("predicted per image", '"pooled"', blue, green),
        ("predicted per position", '"centre"', *predicted),
        ("softmax of query · key", '"attention"', attention(3), attention(5)),
    )
    shapes = heading(top, "Dynamic weight", "Where do the weights come from?")
    for left, (title, argument, first, second) in zip(COLUMNS, maps, strict=True):
        shapes += draw_map(left + MAP / 2 - SMALL * CELL - 4, top + 20, first)
        shapes += draw_map(left + MAP / 2 + 6, top + 20, second)
        shapes += caption(left, top + 120, title, argument)
    return shapes


def write(path, width, height, shapes):
    """Writes an SVG."""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif" '
        f'fill="{TEXT}">',
        *shapes,
        "</svg>",
    ]
    path.write_text("\n".join(lines) + "\n")


def main() -> None:
    """Writes three_choices.svg beside this file."""
    shapes = draw_connectivity(28) + draw_sharing(28 + ROW) + draw_dynamic(28 + 2 * ROW)
    write(Path(__file__).with_suffix(".svg"), WIDTH, HEIGHT, shapes)


if __name__ == "__main__":
    main()
