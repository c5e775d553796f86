"""Cascade Mask R-CNN against the authors' PyTorch code: each part, detections, losses, gradients.

Maps are NHWC here and NCHW there, and anchors come level by level in both.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dwconv_jax.convert import load_torch, to_torch
from dwconv_jax.layers import Canvas
from dwconv_jax.models import create_model
from dwconv_jax.ops.detection.masks import paste_masks
from dwconv_jax.tasks.detection.losses import Objects, anchor_losses, cascade_losses
from tests import golden
from tests.golden import assert_golden
from tests.numerics import assert_close

FORWARD, GRADIENT = 1e-4, 5e-3
STAGES = range(3)


@pytest.fixture(scope="module")
def expected():
    return golden.load("det_cascade")


@pytest.fixture(scope="module")
def model(expected):
    config = expected.config["model"]
    backbone, train, test = config["backbone"], config["train_cfg"], config["test_cfg"]
    roi_head = config["roi_head"]
    model = nnx.eval_shape(
        lambda: create_model(
            "cascade_mask_rcnn_dwnet_tiny",
            num_classes=roi_head["mask_head"]["num_classes"],
            embed_dim=backbone["embed_dim"],
            depths=backbone["depths"],
            pyramid_features=config["neck"]["out_channels"],
            hidden_features=roi_head["bbox_head"][0]["fc_out_channels"],
            settings=dict(
                finest_scale=roi_head["bbox_roi_extractor"]["finest_scale"],
                train_candidates=train["rpn_proposal"]["nms_pre"],
                train_proposals=train["rpn_proposal"]["max_per_img"],
                candidates=test["rpn"]["nms_pre"],
                proposals=test["rpn"]["max_per_img"],
                anchor_samples=train["rpn"]["sampler"]["num"],
                roi_samples=train["rcnn"][0]["sampler"]["num"],
                score_threshold=test["rcnn"]["score_thr"],
                max_detections=test["rcnn"]["max_per_img"],
            ),
            rngs=nnx.Rngs(0),
        )
    )
    return load_torch(model, expected.under("param"))


@pytest.fixture(scope="module")
def batch(expected):
    metas = expected.config["img_metas"]
    # (w, h, w, h) there, (h, w) here.
    scale = np.array([meta["scale_factor"][1::-1] for meta in metas], np.float32)
    return {
        "image": jnp.asarray(expected["input"].transpose(0, 2, 3, 1)),
        "size": jnp.array([meta["img_shape"][:2] for meta in metas]),
        "scale": jnp.asarray(scale),
        "original_size": [tuple(meta["ori_shape"][:2]) for meta in metas],
    }


@pytest.fixture(scope="module")
def objects(expected, batch):
    """Of both images five, and room for three more."""
    height, width = batch["image"].shape[1:3]
    boxes, classes, masks = [], [], []
    for i in range(2):
        of_image = expected.under(f"gt/img{i}")
        boxes.append(np.pad(of_image["boxes"].reshape(-1, 4), ((0, 3), (0, 0))))
        classes.append(np.pad(of_image["labels"], (0, 3), constant_values=-1))
        bits = of_image["mask_bits"].astype(np.uint8).reshape(-1, height, width // 8)
        masks.append(np.pad(bits, ((0, 3), (0, 0), (0, 0))))
    arrays = np.stack(boxes), np.stack(classes).astype(np.int32), np.stack(masks)
    return Objects(*map(jnp.asarray, arrays))


def rpn_outputs(levels, maps):
    """The network's outputs in mmdet's layout."""
    outputs = {}
    for i, (level, x) in enumerate(zip(levels, maps, strict=True)):
        for name, values, channels in (("cls", level.logits, 3), ("reg", level.codes, 12)):
            values = values.reshape(*x.shape[:3], channels)
            outputs[f"rpn_{name}{i}"] = values.transpose(0, 3, 1, 2)
    return outputs


def heads(model, pyramid, box_rois, mask_rois):
    """What each head says of given regions."""
    values = {}
    for stage in STAGES:
        logits, codes = model.classify(stage, pyramid, box_rois[stage])
        values[f"stage{stage}/cls_score"] = logits.reshape(-1, logits.shape[-1])
        values[f"stage{stage}/bbox_pred"] = codes.reshape(len(values["stage0/cls_score"]), -1)
        features = model.pool(pyramid, box_rois[stage][:, :4], 7)[:4]
        values[f"stage{stage}/bbox_feats"] = features.transpose(0, 3, 1, 2)
        masks = model.mask_heads[stage](model.pool(pyramid, mask_rois, 14))
        values[f"mask/stage{stage}_logits"] = masks[::5].transpose(0, 3, 1, 2)
    return values


@functools.partial(jax.jit, static_argnums=0)
def evaluate(graph, state, images, size, scale, box_rois, mask_rois):
    model = nnx.merge(graph, state)
    canvas = Canvas(model.padded_size(size, False))
    maps = model.backbone.features(images, False, None, canvas)
    pyramid = model.features(images, size)
    levels = model.rpn(*pyramid)
    proposals = model.propose(levels, size, train=False)
    boxes, scores, valid = model.refine(pyramid, proposals, size)
    values = {
        **{f"backbone{i}": x.transpose(0, 3, 1, 2) for i, x in enumerate(maps)},
        **{f"fpn{i}": x.transpose(0, 3, 1, 2) for i, x in enumerate(pyramid.levels)},
        **rpn_outputs(levels, pyramid.levels),
    }
    resized = model.select(pyramid, boxes, scores, valid)
    found = model.select(pyramid, boxes, scores, valid, scale)
    return values, proposals, resized, found, heads(model, pyramid, box_rois, mask_rois)


@pytest.fixture(scope="module")
def evaluated(model, batch, expected):
    """All of prediction, compiled once."""
    graph, state = nnx.split(model)
    box_rois, (mask_rois,) = (
        [expected[f"eval/{name}/rois"].reshape(2, -1, 5)[..., 1:] for name in names]
        for names in ([f"stage{stage}" for stage in STAGES], ["mask"])
    )
    inputs = batch["image"], batch["size"], batch["scale"]
    return evaluate(graph, state, *inputs, box_rois, mask_rois)


def test_maps(evaluated, expected):
    values = evaluated[0]
    wanted = {name: array for name, array in expected.under("eval").items() if name in values}
    assert len(wanted) == 4 + 5 + 10
    assert_golden(values, wanted, FORWARD)


def test_proposals(evaluated, expected):
    proposals = evaluated[1]
    assert bool(proposals.valid.all())
    both = jnp.concatenate([proposals.boxes, proposals.scores[..., None]], -1)
    for i in range(2):
        assert_golden({"": both[i]}, {"": expected[f"eval/proposals/img{i}"]}, FORWARD)


@pytest.mark.parametrize("prefix", ["eval", "eval_rescaled"])
def test_detections(evaluated, expected, batch, prefix):
    found = evaluated[2 if prefix == "eval" else 3]
    for i in range(2):
        wanted = expected.under(f"{prefix}/det/img{i}")
        np.testing.assert_array_equal(found.classes[i], wanted["labels"])
        assert_close(found.boxes[i], wanted["boxes"], FORWARD)
        assert_close(found.scores[i], wanted["scores"], FORWARD)
        assert_golden({"": found.masks[i]}, {"": wanted["mask_prob"]}, FORWARD)
        size = tuple(wanted["mask_shape"][1:])
        if prefix == "eval_rescaled":
            assert size == batch["original_size"][i]
        pasted = paste_masks(np.asarray(found.masks[i]), np.asarray(found.boxes[i]), size)
        bits = golden.sample(np.packbits(pasted.reshape(len(pasted), -1), axis=-1))
        flipped = np.unpackbits((bits ^ wanted["mask_bits"]).astype(np.uint8)).mean()
        assert flipped <= 1e-3 < pasted.mean()


def test_heads_alone(evaluated, expected):
    """Each head on the regions that the reference gave it."""
    actual = evaluated[4]
    assert_golden(actual, {name: expected[f"eval/{name}"] for name in actual}, FORWARD)


@pytest.fixture(scope="module")
def trained(model, batch, objects):
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def compute(params, images, size, objects):
        merged = nnx.merge(graph, params, rest, copy=True)
        pyramid = merged.features(images, size, train=True)
        levels = merged.rpn(*pyramid)
        keys = jax.random.split(jax.random.key(0), (4, len(images)))
        anchor_terms = anchor_losses(levels, size, objects, keys[0], merged.settings)
        proposals = merged.propose(levels, size, train=True)
        terms, accuracies = cascade_losses(merged, pyramid, proposals, size, objects, keys[1:])
        loss = sum(x.sum() for x in anchor_terms) + sum(terms.values())
        values = rpn_outputs(levels, pyramid.levels)
        stats = nnx.state(merged, nnx.BatchStat)
        return loss, (values, proposals, anchor_terms, terms | accuracies, stats)

    return compute(params, batch["image"], batch["size"], objects)


def test_training_proposals(trained, expected):
    (_, (values, proposals, *_)), _ = trained
    assert_golden(values, {name: expected[f"train/{name}"] for name in values}, FORWARD)
    both = jnp.concatenate([proposals.boxes, proposals.scores[..., None]], -1)
    for i in range(2):
        assert_golden({"": both[i]}, {"": expected[f"train/proposals/img{i}"]}, FORWARD)


def test_losses(trained, expected):
    (loss, (_, _, anchor_terms, terms, _)), _ = trained
    wanted = expected.under("train/loss")
    actual = {"total": loss}
    for kind, of_levels in zip(("cls", "bbox"), anchor_terms, strict=True):
        actual |= {f"loss_rpn_{kind}.{i}": value for i, value in enumerate(of_levels)}
    for stage in STAGES:
        for kind, name in (("cls", "class"), ("bbox", "box"), ("mask", "mask")):
            actual[f"s{stage}.loss_{kind}"] = terms[f"stage{stage + 1}_{name}_loss"]
        actual[f"s{stage}.acc"] = 100 * terms[f"stage{stage + 1}_accuracy"]
    assert actual.keys() == wanted.keys()
    for name, value in wanted.items():
        # Terms of levels without positives are 0.
        np.testing.assert_allclose(actual[name], value[0], rtol=FORWARD, atol=1e-7, err_msg=name)


def merge(model, state):
    model = nnx.clone(model)
    nnx.update(model, state)
    return model


def test_gradients_and_statistics(trained, model, expected):
    (_, (*_, stats)), grads = trained
    assert_golden(to_torch(merge(model, stats)), expected.under("stats"), FORWARD)
    assert_golden(to_torch(merge(model, grads)), expected.under("grad"), GRADIENT)


def test_there_and_back(model, expected):
    state_dict, original = to_torch(model), expected.under("param")
    assert set(state_dict) == set(original)
    for name, array in state_dict.items():
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(array, original[name], err_msg=name)
