"""The cutting of maps into windows and matrices, checked without any kernel."""

import numpy as np
import pytest

from dwconv_jax import ops
from dwconv_jax.ops.lowerings.tpu.toeplitz import LANES, make_plan
from tests.numerics import assert_close


def matrix(plan, taps):
    """The stored matrix, built as the kernel builds it: vectors rolled row by row, and masked."""
    vectors, mask = plan.placement() @ taps, plan.mask()
    rows, columns = plan.matrix_shape
    rolled = np.zeros((len(vectors), rows, LANES))
    for first, count, place in plan.built:
        for i in range(count):
            rolled[:, place + i] = np.roll(vectors, first + i, axis=1)
    return (np.tile(rolled, columns // LANES) * mask).sum(0)


def convolve(plan, image, taps):
    """The outputs of all products, each where the plan says; NaN where none was written."""
    stored, (height, width) = matrix(plan, taps), plan.map_size
    y = np.full(height * width, np.nan)
    for product in plan.products:
        tile, pitch = plan.tiles[product.tile], plan.window[1]
        seen = np.zeros(plan.matrix_shape[1])
        lines = 1 if plan.is_whole else plan.window[0]
        for line in range(lines):
            for i, place in enumerate(plan.columns(tile, owned=False)):
                if place is not None and product.band.start + line < height:
                    value = image.ravel()[(product.band.start + line) * width + place]
                    seen[line * pitch + i] = value
        mixed = stored[product.first : product.first + product.rows] @ seen
        for line in range(1 if plan.is_whole else product.rows // pitch):
            for i, place in enumerate(plan.columns(tile, owned=True)):
                if place is not None:
                    at = (product.band.first + line) * width + place
                    assert np.isnan(y[at]), "an output is written twice"
                    y[at] = mixed[line * pitch + i]
    return y.reshape(height, width)


def define(connectivity, image, taps):
    """The convolution as `ops.definition` has it, without a compiler: maps here are many."""
    neighbours = connectivity.neighbours(*image.shape)[:, 0]
    return ((image.ravel()[neighbours] * (neighbours >= 0)) @ taps).reshape(image.shape)


@pytest.mark.parametrize("connectivity", [ops.Sliding(7), ops.Sliding((3, 5), (2, 1))], ids=str)
@pytest.mark.parametrize(
    "map_size", [(1, 1), (1, 40), (7, 7), (14, 14), (28, 28), (56, 56), (9, 33), (33, 9), (20, 64)]
)
def test_products_make_up_the_convolution(rng, map_size, connectivity):
    plan = make_plan(map_size, connectivity)
    image, taps = rng.normal(size=map_size), rng.normal(size=connectivity.block_shape(1, 1)[2])
    assert_close(convolve(plan, image, taps), define(connectivity, image, taps), 1e-6)


@pytest.mark.parametrize(
    "connectivity", [ops.Sliding(11), ops.Sliding(3, dilation=5), ops.Sliding((1, 31))], ids=str
)
def test_kernels_whose_offsets_meet_take_several_vectors(rng, connectivity):
    plan = make_plan((24, 40), connectivity)
    image, taps = rng.normal(size=(24, 40)), rng.normal(size=connectivity.block_shape(1, 1)[2])
    assert_close(convolve(plan, image, taps), define(connectivity, image, taps), 1e-6)
    assert all(place % 16 == 0 and rows % 16 == 0 for _, rows, place in plan.built)


def test_one_vector_of_taps_serves_the_maps_of_the_models():
    for size in (7, 14, 28, 56):
        assert len(make_plan((size, size), ops.Sliding(7)).kernel_rows) == 1


def test_wide_kernels_are_refused():
    with pytest.raises(ValueError, match=r"up to 128 positions wide.*kernel_size=\(1, 65\)"):
        make_plan((9, 200), ops.Sliding((1, 65), dilation=2))
