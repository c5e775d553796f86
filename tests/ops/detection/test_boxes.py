"""Overlaps, clipping, the box code and anchors: the authors' numbers, and plain cases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwconv_jax.ops.detection import boxes as box_ops
from dwconv_jax.ops.detection.anchors import anchors, inside
from dwconv_jax.ops.detection.boxes import BoxCoder
from tests import golden
from tests.golden import assert_golden
from tests.numerics import assert_close

TOLERANCE = 5e-5


@pytest.fixture(scope="module")
def expected():
    return golden.load("det_components")


def test_overlaps(expected):
    giou = expected.under("giou")
    pred, target = jnp.asarray(giou["pred"]).reshape(-1, 4), jnp.asarray(giou["target"])
    actual = {
        "iou_aligned": box_ops.iou(pred, target),
        "giou_aligned": box_ops.giou(pred, target),
        "iou_matrix": box_ops.pairwise_iou(pred, target),
        "giou_matrix": box_ops.giou(pred[:, None], target[None]),
    }
    assert_golden(actual, {name: giou[name] for name in actual}, TOLERANCE)


def test_giou_gradient(expected):
    giou = expected.under("giou")
    pred, target, weight = (
        jnp.asarray(giou[name]).reshape(-1, 4) for name in ("pred", "target", "weight")
    )

    def loss(pred):
        return 10 * ((1 - box_ops.giou(pred, target)) * weight.mean(-1)).sum() / 47

    value, grad = jax.value_and_grad(loss)(pred)
    actual = {"loss_avg47": value, "grad_pred": grad}
    assert_golden(actual, {name: giou[name] for name in actual}, TOLERANCE)


@pytest.mark.parametrize("name", ["rpn", "s0", "s1", "s2", "shifted"])
def test_coder(expected, name):
    settings, arrays = expected.config["coder"][name], expected.under(f"coder/{name}")
    coder = BoxCoder(tuple(settings["stds"]), tuple(settings["means"]))
    size = jnp.asarray(settings["max_shape"])
    proposals, gt, deltas = (
        jnp.asarray(arrays[name]).reshape(-1, 4) for name in ("proposals", "gt", "deltas")
    )
    of_classes = coder.decode(proposals[:, None], arrays["deltas_3class"].reshape(-1, 3, 4))
    actual = {
        "encoded": coder.encode(proposals, gt),
        "decoded": coder.decode(proposals, deltas),
        "decoded_clipped": box_ops.clip(coder.decode(proposals, deltas), size),
        "decoded_3class_clipped": box_ops.clip(of_classes, size),
    }
    assert_golden(actual, {name: arrays[name] for name in actual}, TOLERANCE)


def test_encode_and_decode():
    coder = BoxCoder((0.1, 0.1, 0.2, 0.2))
    a, b = jnp.array([[0.0, 0, 10, 20]]), jnp.array([[5.0, 3, 8, 30]])
    np.testing.assert_allclose(coder.decode(a, coder.encode(a, b)), b, rtol=1e-5)
    huge = coder.decode(a, jnp.array([[0.0, 0, 1e9, -1e9]]))
    np.testing.assert_allclose(huge[0], [5 - 312.5, 9.84, 5 + 312.5, 10.16], rtol=1e-5)


def test_boxes_without_area():
    point, box = jnp.array([[3.0, 3, 3, 3]]), jnp.array([[0.0, 0, 9, 9]])
    assert box_ops.iou(point, box).tolist() == box_ops.iou(point, point).tolist() == [0]
    assert bool(jnp.isfinite(jax.grad(lambda p: box_ops.giou(p, point).sum())(point)).all())
    assert box_ops.pairwise_iou(jnp.zeros((0, 4)), box).shape == (0, 1)


def test_each_image_has_its_size():
    boxes = jnp.array([[[-5.0, -5, 99, 99]], [[-5.0, -5, 99, 99]]])
    clipped = box_ops.clip(boxes, jnp.array([[[10, 20]], [[30, 40]]]))
    assert clipped.tolist() == [[[0, 0, 20, 10]], [[0, 0, 40, 30]]]


@pytest.mark.parametrize("scale", [8, 4])
def test_anchors(expected, scale):
    config, arrays = (
        expected.config[f"anchors_scale{scale}"],
        expected.under(f"anchors/scale{scale}"),
    )
    size = jnp.asarray(config["img_shape"])
    for i, (stride, map_size) in enumerate(
        zip(config["strides"], config["featmap_sizes"], strict=True)
    ):
        level = anchors(tuple(map_size), stride, scale)
        assert_golden({"level": level}, {"level": arrays[f"level{i}"]}, TOLERANCE)
        within = golden.sample(np.asarray(inside(jnp.asarray(level), size)))
        # The reference tests the cells too; an anchor inside the image is of a cell inside it.
        np.testing.assert_array_equal(within, arrays[f"inside{i}"] & arrays[f"valid{i}"])


def test_anchors_are_around_corners_of_cells():
    level = anchors((2, 3), 16, scale=1, ratios=(1.0, 4.0))
    assert level.shape == (2, 3, 2, 4)
    assert level[1, 2].tolist() == [[24, 8, 40, 24], [28, 0, 36, 32]]


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"boxes must be floating \[\.\.\., 4\].*float32\[3, 5\]"):
        box_ops.areas(jnp.zeros((3, 5)))
    with pytest.raises(ValueError, match=r"b must be floating .* got int32\[4\]"):
        box_ops.iou(jnp.zeros(4), jnp.zeros(4, jnp.int32))


def test_iou_is_symmetric_and_bounded(rng):
    corners = jnp.asarray(rng.uniform(0, 50, (40, 2, 2)).astype(np.float32))
    boxes = jnp.concatenate([corners.min(1), corners.max(1)], -1)
    overlap = box_ops.pairwise_iou(boxes, boxes)
    assert_close(overlap, overlap.T, 1e-6)
    np.testing.assert_allclose(jnp.diag(overlap), 1, rtol=1e-5)
    assert float(overlap.min()) >= 0
    assert bool((box_ops.giou(boxes[:, None], boxes[None]) <= overlap + 1e-6).all())
