"""RoIAlign against the authors' numbers, and the choice of a level."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwconv_jax.ops.detection import roi_align as roi_align_module
from dwconv_jax.ops.detection.roi_align import pyramid_level, roi_align, roi_align_pyramid
from dwconv_jax.ops.detection.roi_weights import Regions
from tests import golden
from tests.golden import assert_golden

TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def expected():
    return golden.load("det_components")


def by_image(rois):
    """`[R, 5]` to boxes `[2, R, 4]`, of which each image needs some, and whose they are."""
    return jnp.broadcast_to(jnp.asarray(rois[:, 1:]), (2, len(rois), 4)), rois[:, 0].astype(int)


def pick(pooled, image):
    """`[2, R, P, P, C]` to `[R, C, P, P]`: of each box that of its image."""
    return pooled[image, jnp.arange(len(image))].transpose(0, 3, 1, 2)


align = jax.jit(roi_align, static_argnames=("output_size", "stride"))


@pytest.mark.parametrize("size", [7, 14])
def test_values_and_gradients(expected, size):
    arrays = expected.under("roi_align")
    features = jnp.asarray(arrays["feat"].transpose(0, 2, 3, 1))
    boxes, image = by_image(arrays["rois"])
    out, pull = jax.vjp(lambda x: pick(align(x, boxes, size, stride=4), image), features)
    (grad,) = pull(jnp.asarray(arrays[f"grad_out{size}"]))
    actual = {f"out{size}": out, f"grad_feat{size}": grad.transpose(0, 3, 1, 2)}
    assert_golden(actual, {name: arrays[name] for name in actual}, TOLERANCE)


def test_pyramid(expected):
    arrays, settings = expected.under("extract"), expected.config["extract"]
    boxes, image = by_image(arrays["rois"])
    levels = pyramid_level(boxes[0], 4, settings["finest_scale"])
    np.testing.assert_array_equal(levels, arrays["levels"])
    pyramid = [jnp.asarray(arrays[f"feat{i}"].transpose(0, 2, 3, 1)) for i in range(4)]
    pooled = jax.jit(functools.partial(roi_align_pyramid, output_size=7))(pyramid, boxes)
    assert_golden({"out7": pick(pooled, image)}, {"out7": arrays["out7"]}, TOLERANCE)


def test_the_part_of_a_map_that_counts(rng):
    """A map on a larger canvas, with anything beside it, gives what it gives alone."""
    canvas = jnp.asarray(rng.standard_normal((2, 12, 16, 3)), jnp.float32)
    boxes = jnp.asarray([[[-9.0, -9, 60, 40], [3, 3, 8, 90]], [[20, 1, 40, 30], [1, 1, 2, 2]]])
    actual = align(canvas, boxes, 3, stride=4, sizes=jnp.array([[9, 11], [9, 11]]))
    alone = align(canvas[:, :9, :11], boxes, 3, stride=4)
    np.testing.assert_allclose(actual, alone, atol=1e-5)


def random_boxes(rng, count):
    """Narrow, wide, tiny and large ones, also beyond a map of 90 x 100."""
    corner = rng.uniform(-20, 100, (1, count, 2))
    return jnp.asarray(np.concatenate([corner, corner + rng.exponential(25, corner.shape)], -1))


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 1e-5), (jnp.bfloat16, 5e-2)])
def test_row_by_row_equals_the_dense_product(rng, dtype, tolerance):
    """Values and gradients of boxes on the levels of a pyramid."""
    boxes = random_boxes(rng, 64).astype(jnp.float32)
    levels = jnp.asarray(rng.integers(0, 3, (1, 64)))
    sizes = jnp.asarray([(90, 100), (45, 50), (23, 25)])
    regions = Regions(levels, boxes / 2.0 ** levels[..., None], sizes[levels])
    maps = tuple(
        jnp.asarray(rng.standard_normal((1, *size, 4)), jnp.float32) for size in sizes.tolist()
    )

    @functools.partial(jax.jit, static_argnames="pool")
    def values_and_gradients(maps, pool):
        pooled, pull = jax.vjp(lambda maps: pool(regions, maps, 3), maps)
        return pooled, *pull(jnp.cos(pooled))[0]

    cast = tuple(x.astype(dtype) for x in maps)
    actual = values_and_gradients(cast, roi_align_module._pool)
    expected = values_and_gradients(maps, roi_align_module._dense)
    for a, e in zip(actual, expected, strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(a.astype(jnp.float32), e, atol=tolerance * abs(e).max())


def test_degenerate_boxes_give_zeros():
    boxes = jnp.array([[[5.0, 5, 5, 9], [9, 9, 5, 5], [jnp.nan, 0, 1, 1], [-50, -50, -9, -9]]])
    pooled = align(jnp.ones((1, 8, 8, 2)), boxes, 2)
    np.testing.assert_array_equal(pooled, jnp.zeros((1, 4, 2, 2, 2)))
    assert roi_align(jnp.ones((1, 8, 8, 2)), jnp.zeros((1, 0, 4)), 2).shape == (1, 0, 2, 2, 2)


def test_levels_of_the_release():
    sides = jnp.array([0.0, 111, 112, 223, 224, 448, 5000])
    boxes = jnp.stack([0 * sides, 0 * sides, sides, sides], -1)
    assert pyramid_level(boxes, 4).tolist() == [0, 0, 1, 1, 2, 3, 3]


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"boxes must be \[2, R, 4\], got shape \(1, 5, 4\)"):
        roi_align(jnp.ones((2, 8, 8, 1)), jnp.ones((1, 5, 4)), 7)
