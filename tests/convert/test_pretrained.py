"""Segmentation models that start from the weights of classifiers, or of their own kind."""

import jax
import numpy as np
import pytest
from flax import nnx

from dwconv_jax.convert import load_torch, to_torch, write_state_dict
from dwconv_jax.convert.checkpoints import save_weights
from dwconv_jax.convert.pretrained import load_pretrained
from tests.convert.released import random_model

TINY = dict(embed_dim=8, depths=(1, 1, 1, 1))
HEADS = dict(head_features=8, auxiliary_features=8)
MIXERS = {
    "dwnet_tiny": {},
    "dynamic_dwnet_tiny": {},
    "i_dynamic_dwnet_tiny": dict(channels_per_group=(2, 4, 8, 16)),
    "swin_tiny": dict(num_heads=(1, 2, 4, 8)),
}


def classifier(name, seed=0):
    return random_model(name, seed, num_classes=5, **TINY, **MIXERS[name])


def upernet(name, seed=1, **overrides):
    return random_model(
        f"upernet_{name}", seed, **dict(num_classes=4) | TINY | HEADS | MIXERS[name] | overrides
    )


@pytest.mark.parametrize("name", MIXERS)
@pytest.mark.parametrize("kind", ["torch", "orbax"])
def test_a_classifier_gives_the_backbone(name, kind, tmp_path):
    source, model = classifier(name), upernet(name)
    before = to_torch(model)
    path = tmp_path / ("weights.safetensors" if kind == "torch" else "weights")
    if kind == "torch":
        write_state_dict(path, to_torch(source))
    else:
        save_weights(path, source)
    load_pretrained(model, path)
    given, after = to_torch(source), to_torch(model)
    for key, array in after.items():
        inner = key.removeprefix("backbone.")
        expected = given[inner] if inner in given else before[key]
        np.testing.assert_array_equal(array, expected, err_msg=key)
    assert any(key.startswith("backbone.norm0") for key in after)


def test_a_classifier_gives_the_backbone_of_a_detector(tmp_path):
    def detector(num_classes):
        return random_model(
            "cascade_mask_rcnn_dwnet_tiny",
            seed=num_classes,
            num_classes=num_classes,
            **TINY,
            pyramid_features=8,
            hidden_features=8,
        )

    source, model = classifier("dwnet_tiny"), detector(4)
    write_state_dict(tmp_path / "classifier.safetensors", to_torch(source))
    load_pretrained(model, tmp_path / "classifier.safetensors")
    given, after = to_torch(source), to_torch(model)
    for name in given.keys() - {"norm.weight", "norm.bias", "head.weight", "head.bias"}:
        np.testing.assert_array_equal(after[f"backbone.{name}"], given[name], err_msg=name)

    other = detector(7)
    write_state_dict(tmp_path / "detector.safetensors", after)
    with pytest.raises(ValueError, match="only the head differs"):
        load_pretrained(other, tmp_path / "detector.safetensors")
    load_pretrained(other, tmp_path / "detector.safetensors", strict=False)
    kernels = other.rpn.conv.kernel, model.rpn.conv.kernel
    np.testing.assert_array_equal(*(kernel[...] for kernel in kernels))


@pytest.mark.parametrize("name", MIXERS)
def test_there_and_back(name):
    model, other = upernet(name, seed=1), upernet(name, seed=2)
    load_torch(other, to_torch(model))
    kinds = nnx.Any(nnx.Param, nnx.BatchStat)
    jax.tree.map(np.testing.assert_array_equal, *(nnx.state(m, kinds) for m in (other, model)))


def test_another_number_of_classes_keeps_the_models_own(tmp_path):
    source, model = upernet("dwnet_tiny", num_classes=7), upernet("dwnet_tiny")
    path = tmp_path / "weights.safetensors"
    write_state_dict(path, to_torch(source))
    with pytest.raises(ValueError, match="only the head differs"):
        load_pretrained(model, path)
    load_pretrained(model, path, strict=False)
    np.testing.assert_array_equal(
        model.decode_head.fuse.conv.kernel, source.decode_head.fuse.conv.kernel
    )


def test_a_classifier_of_another_width_is_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    write_state_dict(path, to_torch(classifier("dwnet_tiny")))
    wide = upernet("dwnet_tiny", embed_dim=16)
    with pytest.raises(ValueError, match=r"misshapen patch_embed\.proj\.weight"):
        load_pretrained(wide, path)
