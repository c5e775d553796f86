"""Plans of detection's batches, and the geometry of images and objects, in NumPy.

Sizes are int `[n, 2]`, height and width. Before anything is decoded, a plan decides for each place
of each batch of an epoch which image it holds and how that is resized, cropped and flipped. This
lets a batch hold images of one shape, and a run resume at any batch.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from dwconv_jax.data.detection.config import DetectionConfig
from dwconv_jax.errors import UserError

Array = np.ndarray

# mmdet normalizes losses over the two images of a GPU.
PAIR = 2


@dataclasses.dataclass(frozen=True)
class Views:
    """How each of n images is flipped, resized, cropped and resized again.

    Attributes:
      flip: bool `[n]`, whether the image is first flipped, left to right.
      first: int32 `[n, 2]`, the size before the crop.
      crop: int32 `[n, 4]`, top, left, height and width of the crop.
      size: int32 `[n, 2]`, the size the network sees.
    """

    flip: Array
    first: Array
    crop: Array
    size: Array

    def __getitem__(self, rows: Array | int) -> "Views":
        return Views(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))


def keep_ratio(sizes: Array, longest: int, shortest: Array | int) -> Array:
    """The largest sizes of the same aspect within a longest and a shortest side."""
    factor = np.minimum(longest / sizes.max(1), np.asarray(shortest) / sizes.min(1))
    return np.maximum((sizes * factor[:, None] + 0.5).astype(np.int32), 1)


def draw_views(sizes: Array, config: DetectionConfig, rng: np.random.Generator) -> Views:
    """Draws one of two training policies for each image, as in the authors' configs.

    The first resizes to a random scale. The second resizes to another scale, crops, and continues
    like the first.
    """
    count, longest = len(sizes), config.scale[0]
    flip = config.flip & (rng.random(count) < 0.5)
    shortest = rng.choice(config.train_shortest, count)
    if not config.crop_shortest:
        return _uncropped(sizes, flip, keep_ratio(sizes, longest, shortest))
    first = keep_ratio(sizes, longest, rng.choice(config.crop_shortest, count))
    low, high = (np.minimum(first, side) for side in config.crop_range)
    extent = rng.integers(low, high, endpoint=True)
    corner = rng.integers(0, first - extent, endpoint=True)
    crops = (rng.random(count) < 0.5)[:, None]
    whole = _uncropped(sizes, flip, sizes)
    crop = np.where(crops, np.concatenate([corner, extent], 1), whole.crop).astype(np.int32)
    return Views(
        flip=flip,
        first=np.where(crops, first, sizes).astype(np.int32),
        crop=crop,
        size=keep_ratio(crop[:, 2:], longest, shortest),
    )


def evaluation_views(sizes: Array, config: DetectionConfig) -> Views:
    """The views of evaluation, which only resizes."""
    return _uncropped(sizes, np.zeros(len(sizes), bool), keep_ratio(sizes, *config.scale))


def _uncropped(sizes: Array, flip: Array, resized: Array) -> Views:
    sizes = sizes.astype(np.int32)
    return Views(flip, sizes, np.concatenate([np.zeros_like(sizes), sizes], 1), resized)


def smallest_canvas(sizes: Array, canvases: Sequence[tuple[int, int]]) -> Array:
    """The smallest canvas that holds each size, int32 `[n, 2]`.

    Raises:
      UserError: no canvas holds a size; names it and `config.dataset.canvases`.
    """
    ordered = np.array(sorted(map(tuple, canvases), key=lambda c: c[0] * c[1]), np.int32)
    fits = np.all(sizes[:, None] <= ordered, axis=-1)
    if not fits.any(1).all():
        height, width = sizes[np.argmin(fits.any(1))]
        raise UserError(
            f"config.dataset.canvases={tuple(map(tuple, canvases))}: none holds images of "
            f"{height} x {width}, to which config.dataset.scale and the other fields resize some"
        )
    return ordered[fits.argmax(1)]


def largest_training_size(sizes: Array, config: DetectionConfig) -> Array:
    """Height and width of the canvas that holds any two training images, int `[1, 2]`."""
    longest = config.scale[0]
    resized = keep_ratio(sizes, longest, max(config.train_shortest)).max(0, keepdims=True)
    # A crop may have any aspect.
    return np.full_like(resized, longest) if config.crop_shortest else resized


def plan_epoch(
    sizes: Array, config: DetectionConfig, batch_size: int, rng: np.random.Generator
) -> tuple[Array, Views, Array]:
    """Plans an epoch of training batches: the image at each place, its view and its canvas.

    Two consecutive images are a pair of one orientation, as sampled by mmdet; a remaining odd image
    of each orientation is paired with the other. A batch holds pairs that fit one canvas, or pairs
    left over from all canvases. No image is shown twice.

    Args:
      sizes: of the images.
      config: see `DetectionConfig`.
      batch_size: even.
      rng: decides everything.

    Returns:
      For each place: the index of the image, int32 `[n]`, its view, and its canvas, int32 `[n, 2]`;
      n is the number of images in whole batches.
    """
    views = draw_views(sizes, config, rng)
    pairs = _pairs(sizes, rng)
    pair_sizes, per_batch = views.size[pairs].max(1), batch_size // PAIR
    canvases = smallest_canvas(pair_sizes, config.canvases)
    batches, left_over = [], []
    for canvas in np.unique(canvases, axis=0):
        alike = np.flatnonzero((canvases == canvas).all(1))
        batches.append(_whole_rows(alike, per_batch))
        left_over.append(alike[batches[-1].size :])
    batches.append(_whole_rows(rng.permutation(np.concatenate(left_over)), per_batch))
    order = rng.permutation(np.concatenate(batches))  # pairs, `[batches, per_batch]`
    images = pairs[order].reshape(-1)
    shared = smallest_canvas(pair_sizes[order].max(1), config.canvases)
    return images.astype(np.int32), views[images], np.repeat(shared, batch_size, 0)


def _pairs(sizes: Array, rng: np.random.Generator) -> Array:
    """Pairs of images, `[n // 2, 2]`, of one orientation each except perhaps the last."""
    order = rng.permutation(len(sizes))
    is_wide = sizes[order, 1] > sizes[order, 0]
    wide, tall = order[is_wide], order[~is_wide]
    whole = [_whole_rows(group, PAIR) for group in (wide, tall)]
    odd = [group[pairs.size :] for group, pairs in zip((wide, tall), whole, strict=True)]
    return np.concatenate([*whole, _whole_rows(np.concatenate(odd), PAIR)])


def _whole_rows(values: Array, width: int) -> Array:
    """Reshapes `[n]` to `[n // width, width]`, dropping the remainder."""
    return values[: len(values) // width * width].reshape(-1, width)


def plan_evaluation(
    views: Views, config: DetectionConfig, batch_size: int
) -> tuple[Array, Array, Array]:
    """Plans the evaluation batches: every image once, and copies as padding.

    Returns:
      For each place: the index of the image, int32 `[n]`; its canvas, int32 `[n, 2]`; and its mask,
      float32 `[n]`, 0 for padding.
    """
    canvases = smallest_canvas(views.size, config.canvases)
    images, counts = [], []
    for one in np.unique(canvases, axis=0):
        alike = np.flatnonzero((canvases == one).all(1))
        filling = np.full(-len(alike) % batch_size, alike[0])
        images += [alike, filling]
        counts += [np.ones(len(alike), np.float32), np.zeros(len(filling), np.float32)]
    order = np.concatenate(images).astype(np.int32)
    return order, canvases[order], np.concatenate(counts)


def transform_boxes(boxes: Array, size: Array, view: Views) -> tuple[Array, Array]:
    """Transforms boxes to a view of their image and clips them to it.

    Args:
      boxes: float32 `[n, 4]`, x1, y1, x2, y2 in pixels of the original.
      size: int `[2]`, height and width of the original.
      view: of one image.

    Returns:
      The boxes that remain in the crop, float32 `[m, 4]`, and their indices, int `[m]`.
    """
    if view.flip:
        boxes = np.stack(
            [size[1] - boxes[:, 2], boxes[:, 1], size[1] - boxes[:, 0], boxes[:, 3]], 1
        )
    boxes = _resize_boxes(boxes, size, view.first)
    top, left, height, width = view.crop
    boxes = _clip(boxes - np.array([left, top, left, top], np.float32), (height, width))
    kept = np.flatnonzero((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))
    return _resize_boxes(boxes[kept], view.crop[2:], view.size), kept


def _resize_boxes(boxes: Array, old: Array, new: Array) -> Array:
    scale = (new[::-1] / old[::-1]).astype(np.float32)
    return _clip(boxes * np.concatenate([scale, scale]), new)


def _clip(boxes: Array, size: Sequence[int] | Array) -> Array:
    height, width = size
    return np.clip(boxes, 0, np.array([width, height, width, height], np.float32))


def visible_pixels(size: Sequence[int], view: Views) -> tuple[Array, Array]:
    """Rows and columns of the original in a view, resized to nearest neighbors as in OpenCV.

    The view of a mask `m` is `m[rows][:, columns]`.
    """
    top, left, height, width = view.crop
    rows = _nearest(size[0], view.first[0])[top : top + height]
    cols = _nearest(size[1], view.first[1])[left : left + width]
    if view.flip:
        cols = size[1] - 1 - cols
    return rows[_nearest(height, view.size[0])], cols[_nearest(width, view.size[1])]


def _nearest(old: int, new: int) -> Array:
    step = 1 / (int(new) / int(old))
    return np.minimum(np.floor(np.arange(new) * step).astype(np.int64), old - 1)
