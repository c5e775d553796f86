"""State dicts into models and out of them: what fits, what is made to fit, what is refused."""

import logging
import re

import jax.numpy as jnp
import numpy as np
import pytest

from dwconv_jax.convert import load_torch, to_torch, write_state_dict
from dwconv_jax.convert.bicubic import resize_bicubic
from tests.convert.released import (
    FAMILIES,
    abstract_model,
    assert_same,
    filled_model,
    random_state_dict,
    small_model,
)

# ---- Round trips.


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("name", FAMILIES)
def test_round_trip_through_a_file(tmp_path, name, suffix):
    state_dict = random_state_dict(small_model(name))
    path = tmp_path / f"model{suffix}"
    write_state_dict(path, state_dict)
    model = small_model(name)
    assert load_torch(model, path) is model
    assert_same(to_torch(model), state_dict)


def test_full_size_tiny_model(tmp_path):
    state_dict = random_state_dict(abstract_model("dwnet_tiny"))
    write_state_dict(tmp_path / "dwnet_tiny.pth", state_dict)
    model = load_torch(abstract_model("dwnet_tiny"), tmp_path / "dwnet_tiny.pth")
    assert_same(to_torch(model), state_dict)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dynamic_dwnet_base", "swin_base"])
def test_full_size_base_model(name):
    state_dict = random_state_dict(abstract_model(name))
    assert_same(to_torch(load_torch(abstract_model(name), state_dict)), state_dict)


def test_weights_take_the_dtype_of_the_model():
    state_dict = random_state_dict(small_model("dwnet_tiny"))
    model = load_torch(small_model("dwnet_tiny", param_dtype=jnp.bfloat16), state_dict)
    expected = state_dict["head.weight"].T.astype(jnp.bfloat16)
    np.testing.assert_array_equal(model.head.kernel[...], expected)


def test_pytorch_tensors_as_they_are():
    torch = pytest.importorskip("torch")
    state_dict = random_state_dict(small_model("dwnet_tiny"))
    tensors = {name: torch.from_numpy(array) for name, array in state_dict.items()}
    tensors["head.bias"] = torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    model = load_torch(small_model("dwnet_tiny"), tensors)
    assert_same(to_torch(model), state_dict | {"head.bias": np.ones(3, np.float32)})


def test_constants_may_be_missing_or_of_another_image_size():
    model = small_model("swin_tiny")
    state_dict = random_state_dict(model, image_size=64)
    assert any(name.endswith("attn_mask") for name in state_dict)
    without = {k: v for k, v in state_dict.items() if not k.endswith(("attn_mask", "index"))}
    for given in (state_dict, without):
        assert_same(to_torch(load_torch(small_model("swin_tiny"), given), 64), state_dict)


def test_swin_in_timm_starts_a_stage_with_patch_merging_and_has_no_buffers():
    model = filled_model("swin_tiny")
    in_timm = to_torch(model, 64, layout="timm")
    assert in_timm["layers.1.downsample.reduction.weight"].shape == (16, 32)
    assert in_timm["head.fc.weight"].shape == (3, 16)
    assert not any(name.endswith(("attn_mask", "index")) for name in in_timm)
    assert_same(to_torch(load_torch(small_model("swin_tiny"), in_timm)), to_torch(model))


# ---- Weights that do not fit.


def test_every_misfit_is_listed_and_the_model_is_unchanged():
    model = filled_model("dwnet_tiny")
    before = to_torch(model)
    state_dict = random_state_dict(model)
    del state_dict["norm.bias"]
    state_dict["norm.weight"] = np.zeros(5, np.float32)
    state_dict["absolute_pos_embed"] = np.zeros((1, 4), np.float32)
    with pytest.raises(ValueError, match="the model") as caught:
        load_torch(model, state_dict)
    assert str(caught.value).splitlines() == [
        "state dict does not fit the model: 1 missing, 1 extra, 1 misshapen",
        "  missing norm.bias [16]",
        "  extra absolute_pos_embed [1, 4]",
        "  misshapen norm.weight [5], the model has [16]",
    ]
    assert_same(to_torch(model), before)


def test_the_weights_of_another_model_give_a_readable_error(tmp_path):
    path = tmp_path / "dwnet.pth"
    write_state_dict(path, random_state_dict(small_model("dwnet_tiny", depths=(2, 2, 6, 2))))
    model = small_model("swin_tiny", depths=(2, 2, 6, 2), num_heads=(1, 2, 4, 8))
    with pytest.raises(ValueError, match=r"dwnet.pth does not fit the model: ") as caught:
        load_torch(model, path)
    message = str(caught.value)
    missing = int(re.search(r"(\d+) missing", message)[1])
    assert f"\n  ... and {missing - 20} more missing" in message
    assert len(message.splitlines()) <= 1 + 21 + 21 + 21


def test_tables_in_another_order_are_refused():
    model = small_model("swin_tiny")
    state_dict = random_state_dict(model)
    name = "layers.0.blocks.0.attn.relative_position_index"
    state_dict[name] = state_dict[name].T
    with pytest.raises(ValueError, match=f"{name} orders the position table otherwise"):
        load_torch(model, state_dict)


# ---- Heads.


def test_a_head_of_other_classes_is_an_error_unless_allowed():
    state_dict = random_state_dict(small_model("dwnet_tiny", num_classes=7))
    with pytest.raises(ValueError, match="only the head differs: strict=False keeps"):
        load_torch(small_model("dwnet_tiny"), state_dict)


def test_a_head_of_other_classes_is_left_out_and_said_so(caplog):
    state_dict = random_state_dict(small_model("dwnet_tiny", num_classes=7))
    model = filled_model("dwnet_tiny")
    own = to_torch(model)
    with caplog.at_level(logging.INFO):
        load_torch(model, state_dict, strict=False)
    assert "left out the head (head.weight [7, 16], head.bias [7])" in caplog.text
    own = {name: array for name, array in own.items() if name.startswith("head.")}
    assert_same(to_torch(model), state_dict | own)


def test_a_model_without_a_head_leaves_out_that_of_the_file():
    state_dict = random_state_dict(small_model("dwnet_tiny"))
    with pytest.raises(ValueError, match="only the head differs"):
        load_torch(small_model("dwnet_tiny", num_classes=0), state_dict)
    model = load_torch(small_model("dwnet_tiny", num_classes=0), state_dict, strict=False)
    rest = {name: v for name, v in state_dict.items() if not name.startswith("head.")}
    assert_same(to_torch(model), rest)


@pytest.mark.parametrize("in_file", [True, False])
def test_a_skipped_head_stays_even_where_it_would_fit(in_file):
    model = filled_model("dwnet_tiny")
    own = to_torch(model)
    state_dict = random_state_dict(model)
    given = {k: v for k, v in state_dict.items() if in_file or not k.startswith("head.")}
    load_torch(model, given, head="skip")
    own = {name: array for name, array in own.items() if name.startswith("head.")}
    assert_same(to_torch(model), state_dict | own)


def test_an_unknown_choice_of_head_is_named():
    with pytest.raises(ValueError, match="head must be one of 'load', 'skip', got 'keep'"):
        load_torch(small_model("dwnet_tiny"), {}, head="keep")


# ---- Relative position tables.


def test_position_tables_of_other_windows_are_resized_if_allowed(caplog):
    state_dict = random_state_dict(small_model("swin_tiny", window_size=4))
    with pytest.raises(ValueError, match=r"3 misshapen\n  .*table \[49, 1\], the model has \[25"):
        load_torch(small_model("swin_tiny", window_size=3), state_dict)
    with caplog.at_level(logging.INFO):
        model = load_torch(small_model("swin_tiny", window_size=3), state_dict, strict=False)
    name = "layers.1.blocks.0.attn.relative_position_bias_table"
    assert f"resized {name} from 7x7 to 5x5 (bicubic)" in caplog.text
    expected = resize_bicubic(state_dict[name].reshape(7, 7, 2), (5, 5)).reshape(25, 2)
    np.testing.assert_array_equal(to_torch(model)[name], expected)


def test_convolutions_of_colors_take_gray_images_if_allowed(caplog):
    state_dict = random_state_dict(small_model("dwnet_tiny"))
    with pytest.raises(
        ValueError, match=r"patch_embed.proj.weight .* the model has \[8, 1, 4, 4\]"
    ):
        load_torch(small_model("dwnet_tiny", in_channels=1), state_dict)
    with caplog.at_level(logging.INFO):
        model = load_torch(small_model("dwnet_tiny", in_channels=1), state_dict, strict=False)
    assert "summed patch_embed.proj.weight over the colors" in caplog.text
    name = "patch_embed.proj.weight"
    np.testing.assert_allclose(to_torch(model)[name][:, 0], state_dict[name].sum(1), rtol=1e-6)


def test_position_tables_of_other_heads_are_refused():
    state_dict = random_state_dict(small_model("swin_tiny", num_heads=(2, 4)))
    with pytest.raises(ValueError, match=r"table \[49, 2\], the model has \[25, 1\]"):
        load_torch(small_model("swin_tiny", window_size=3), state_dict, strict=False)


# Computed with torch.nn.functional.interpolate(mode="bicubic"), as Swin's own code does.
BICUBIC = [
    (
        [[0, 1, 4], [2, 2, 4], [1, 0, 1]],
        [
            [-0.2972, 0.0103, 0.9040, 2.8777, 4.2972],
            [0.7823, 0.9201, 1.5320, 3.2239, 4.4737],
            [2.0000, 1.8560, 2.0000, 3.2240, 4.1920],
            [1.5977, 1.1719, 0.8480, 1.6041, 2.2903],
            [1.0092, 0.4137, -0.1920, 0.2823, 0.7988],
        ],
    ),
    (
        [[0, 1, 4, 9, 5], [3, 3, 5, 9, 4], [1, 0, 1, 4, 9], [5, 3, 3, 5, 9], [4, 1, 0, 1, 4]],
        [[1.1365, 4.5370, 6.2040], [0.6296, 1.0000, 7.5926], [3.7154, 1.0556, 4.6180]],
    ),
]


@pytest.mark.parametrize(("before", "after"), BICUBIC)
def test_bicubic_resizing_is_that_of_pytorch(before, after):
    before, after = (np.array(x, np.float32)[..., None] for x in (before, after))
    np.testing.assert_allclose(resize_bicubic(before, after.shape[:2]), after, atol=1e-4)


def test_bicubic_resizing_keeps_what_it_should(rng):
    x = rng.normal(size=(7, 7, 2)).astype(np.float32)
    np.testing.assert_array_equal(resize_bicubic(x, (7, 7)), x)
    larger = resize_bicubic(x, (13, 13))
    mirrored = resize_bicubic(x[:, ::-1], (13, 13))
    np.testing.assert_allclose(mirrored, larger[:, ::-1], atol=1e-6)
    np.testing.assert_allclose(resize_bicubic(np.ones((7, 7, 1)), (4, 9)), 1)


# ---- Models that the release does not have.


@pytest.mark.parametrize(
    "mixer",
    [
        dict(connectivity="sliding", groups=4),
        dict(connectivity="sliding", dynamic="pooled", groups=4),
        dict(connectivity="sliding", dilation=2),
        dict(connectivity="sliding", dynamic="attention", groups=2),
        dict(connectivity="window", groups=4),
    ],
)
def test_other_layers_have_no_layout(mixer):
    model = small_model("dwnet_tiny", mixer=mixer)
    with pytest.raises(ValueError, match=r"blocks.0.attn2conv.conv: the authors' code has"):
        list(model.torch_layout())


def test_other_swin_blocks_have_no_layout():
    mixer = dict(connectivity="window", groups=4)
    model = abstract_model("swin_tiny", embed_dim=8, depths=(1,), mixer=mixer)
    with pytest.raises(ValueError, match=r"layers.0.blocks.0.attn: the authors' code has no layer"):
        list(model.torch_layout())


@pytest.mark.parametrize(
    "option",
    [
        dict(position_bias="mlp"), dict(position_bias=None), dict(cosine=True), dict(rotary=True),
        dict(lepe=3), dict(num_kv_heads=1), dict(cyclic=True),
    ],
    ids=str,
)  # fmt: skip
def test_options_that_swins_code_lacks_are_not_lost(option):
    flags = dict(connectivity="window", dynamic="attention", num_heads=2, attention=option)
    model = small_model("swin_tiny", mixer=flags, embed_dim=8, num_heads=2)
    with pytest.raises(ValueError, match="these options of attention"):
        to_torch(model)
