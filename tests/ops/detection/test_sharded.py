"""Regions and boxes of images split over devices, on meshes with automatic and explicit axes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from dwconv_jax.ops.detection.masks import mask_targets
from dwconv_jax.ops.detection.nms import nms
from dwconv_jax.ops.detection.roi_align import roi_align, roi_align_pyramid
from tests.numerics import assert_close

pool = functools.partial(roi_align, output_size=2)


def pool_pyramid(maps, boxes):
    return roi_align_pyramid((maps, maps[:, ::2, ::2]), boxes, 2, strides=(1, 2), finest_scale=4.0)


@jax.jit
def compute(maps, boxes, scores):
    pooled = [align(maps, boxes) for align in (pool, pool_pyramid)]
    gradients = [
        jax.grad(lambda x, align=align: jnp.sin(align(x, boxes)).sum())(maps)
        for align in (pool, pool_pyramid)
    ]
    kept = jax.vmap(functools.partial(nms, iou_threshold=0.1, max_kept=3))(boxes, scores)
    bitmaps = (maps * 99).astype(jnp.uint8)
    sizes = jnp.broadcast_to(jnp.array([[8, 30]]), (len(maps), 2))
    masks = mask_targets(bitmaps, kept.indices, boxes[:, :3], sizes, 4)
    return *pooled, *gradients, *kept, masks


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
def test_devices_do_what_one_does(rng, axis_type):
    corners = rng.uniform(-1, 6, (8, 5, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0, 6, corners.shape)], -1)
    maps = rng.normal(size=(8, 8, 8, 4))
    arrays = [jnp.asarray(x, jnp.float32) for x in (maps, boxes, rng.random((8, 5)))]
    expected = compute(*arrays)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(axis_type,))
    with jax.set_mesh(mesh):
        actual = compute(*jax.device_put(arrays, NamedSharding(mesh, PartitionSpec("data"))))
    assert {a.sharding.spec[0] for a in actual} == {"data"}
    for a, e in zip(actual, expected, strict=True):
        assert_close(a, e, 1e-5)
