"""Mask targets and pasted masks against the authors' numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwconv_jax.ops.detection.masks import mask_targets, paste_masks
from tests import golden


@pytest.fixture(scope="module")
def expected():
    return golden.load("det_components")


@pytest.mark.parametrize("resolution", [28, 14])
def test_targets(expected, resolution):
    arrays = expected.under("mask_target")
    masks = arrays["gt_masks"].astype(bool)
    targets = jax.jit(mask_targets, static_argnames="resolution")(
        np.packbits(masks, axis=-1)[None],
        arrays["gt_inds"][None],
        arrays["boxes"].reshape(1, -1, 4),
        jnp.array([masks.shape[1:]]),
        resolution=resolution,
    )
    wanted = arrays[f"target{resolution}"]
    assert (golden.sample(np.asarray(targets)) != wanted).mean() <= 1e-3
    assert 0.2 < wanted.mean() < 0.8


def test_paste(expected):
    arrays, settings = expected.under("paste"), expected.config["paste"]
    size = settings["img_h"], settings["img_w"]
    pasted = paste_masks(arrays["mask_prob"], arrays["boxes"], size, settings["threshold"])
    assert (golden.sample(pasted) != (arrays["soft"] >= 0.5)).mean() <= 1e-3
    bits = golden.sample(np.packbits(pasted.reshape(len(pasted), -1), axis=-1))
    assert np.unpackbits((bits ^ arrays["bits"]).astype(np.uint8)).mean() <= 1e-3


def test_a_full_mask_fills_its_box():
    (pasted,) = paste_masks(np.ones((1, 28, 28)), np.array([[2.0, 1, 5, 4]]), (6, 7))
    wanted = np.zeros((6, 7), bool)
    wanted[1:4, 2:5] = True
    np.testing.assert_array_equal(pasted, wanted)


def test_boxes_that_show_nothing():
    boxes = np.array([[90.0, 90, 99, 99], [2.25, 2.25, 2.25, 2.25]])
    assert not paste_masks(np.ones((2, 28, 28)), boxes, (6, 7))[0].any()
    assert paste_masks(np.zeros((0, 28, 28)), np.zeros((0, 4)), (6, 7)).shape == (0, 6, 7)
