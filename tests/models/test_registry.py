"""The table of variants: exact sizes, and what `create_model` refuses."""

import copy
import pickle

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import dwconv_jax
from dwconv_jax.errors import UserError
from dwconv_jax.models import TASK_VARIANTS, VARIANTS, multiply_adds
from dwconv_jax.models.blocks.block import DropPath
from dwconv_jax.models.registry import ALIASES, FAMILIES
from tests.models.drawn import drawn
from tests.numerics import assert_close

# Written out rather than read from the table: parameters, and multiply-adds in G at the size of
# the images that the model was published for.
EXPECTED = {
    "dwnet_tiny": (24_172_744, 3.73),
    "dwnet_base": (74_347_112, 12.81),
    "dynamic_dwnet_tiny": (51_131_752, 3.75),
    "dynamic_dwnet_base": (161_597_928, 12.90),
    "i_dynamic_dwnet_tiny": (26_244_280, 4.37),
    "i_dynamic_dwnet_base": (80_253_608, 14.34),
    "swin_tiny": (28_288_354, 4.49),
    "swin_small": (49_606_258, 8.74),
    "swin_base": (87_768_224, 15.43),
    "swin_base_384": (87_903_584, 47.08),
    "swin_large": (196_532_476, 34.48),
    "swin_large_384": (196_735_516, 103.92),
    "convnext_atto": (3_695_520, 0.55),
    "convnext_femto": (5_217_784, 0.78),
    "convnext_pico": (9_045_672, 1.37),
    "convnext_nano": (15_593_560, 2.45),
    "convnext_tiny": (28_589_128, 4.46),
    "convnext_small": (50_223_688, 8.68),
    "convnext_base": (88_591_464, 15.35),
    "convnext_large": (197_767_336, 34.36),
    "convnext_xlarge": (350_196_968, 60.92),
    "convnextv2_atto": (3_708_400, 0.55),
    "convnextv2_femto": (5_233_240, 0.78),
    "convnextv2_pico": (9_066_280, 1.37),
    "convnextv2_nano": (15_623_800, 2.45),
    "convnextv2_tiny": (28_635_496, 4.46),
    "convnextv2_small": (50_318_440, 8.68),
    "convnextv2_base": (88_717_800, 15.35),
    "convnextv2_large": (197_956_840, 34.36),
    "convnextv2_huge": (660_289_640, 114.92),
    "efficientnet_lite0": (4_652_008, 0.41),
    "efficientnet_lite1": (5_416_680, 0.62),
    "efficientnet_lite2": (6_092_072, 0.89),
    "efficientnet_lite3": (8_197_096, 1.43),
    "efficientnet_lite4": (13_006_568, 2.6),
    "swinv2_tiny_window8_256": (28_347_154, 5.94),
    "swinv2_tiny_window16_256": (28_347_154, 6.68),
    "swinv2_small_window8_256": (49_728_418, 11.55),
    "swinv2_small_window16_256": (49_728_418, 12.80),
    "swinv2_base_window8_256": (87_918_816, 20.33),
    "swinv2_base_window16_256": (87_918_816, 21.99),
    "swinv2_base_window12_192": (87_918_816, 11.87),
    "swinv2_base_window12to16_192to256": (87_918_816, 21.99),
    "swinv2_base_window12to24_192to384": (87_918_816, 55.21),
    "swinv2_large_window12_192": (196_739_932, 26.12),
    "swinv2_large_window12to16_192to256": (196_739_932, 47.78),
    "swinv2_large_window12to24_192to384": (196_739_932, 116.08),
    "nat_mini": (19_984_174, 2.69),
    "nat_tiny": (27_901_582, 4.3),
    "nat_small": (50_743_297, 7.77),
    "nat_base": (89_769_652, 13.68),
    "dinat_mini": (19_984_174, 2.69),
    "dinat_tiny": (27_901_582, 4.3),
    "dinat_small": (50_719_681, 7.77),
    "dinat_base": (89_769_652, 13.68),
    "dinat_large": (200_943_514, 30.46),
    "maxvit_tiny_tf_224": (30_916_528, 5.59),
    "maxvit_tiny_tf_384": (30_977_008, 17.42),
    "maxvit_tiny_tf_512": (31_049_584, 33.08),
    "maxvit_small_tf_224": (68_927_956, 11.64),
    "maxvit_small_tf_384": (69_018_676, 35.71),
    "maxvit_small_tf_512": (69_127_540, 66.65),
    "maxvit_base_tf_224": (119_467_708, 23.96),
    "maxvit_base_tf_384": (119_653_468, 73.35),
    "maxvit_base_tf_512": (119_876_380, 136.55),
    "maxvit_large_tf_224": (211_785_560, 43.57),
    "maxvit_large_tf_384": (212_033_240, 131.95),
    "maxvit_large_tf_512": (212_330_456, 242.78),
    "maxvit_xlarge_tf_224": (474_951_952, 97.34),
    "maxvit_xlarge_tf_384": (475_323_472, 291.87),
    "maxvit_xlarge_tf_512": (475_769_296, 531.19),
    "halonet26t": (12_480_288, 3.25),
    "sehalonet33ts": (13_691_712, 3.62),
    "halonet50ts": (22_733_280, 5.26),
    "pvt_v2_b0": (3_666_760, 0.57),
    "pvt_v2_b1": (14_009_000, 2.11),
    "pvt_v2_b2": (25_362_856, 4.03),
    "pvt_v2_b2_li": (22_553_512, 3.9),
    "pvt_v2_b3": (45_238_696, 6.9),
    "pvt_v2_b4": (62_556_072, 10.1),
    "pvt_v2_b5": (81_956_008, 11.72),
    "swin_mlp_tiny_c24": (20_386_632, 4.03),
    "swin_mlp_tiny_c12": (21_152_072, 4.03),
    "swin_mlp_tiny_c6": (22_682_952, 4.03),
    "swin_mlp_base": (60_659_416, 10.41),
    "mixer_s32_224": (19_104_624, 1.0),
    "mixer_s16_224": (18_528_264, 3.78),
    "mixer_b32_224": (60_293_428, 3.24),
    "mixer_b16_224": (59_880_472, 12.6),
    "mixer_l32_224": (206_939_264, 11.25),
    "mixer_l16_224": (208_196_168, 44.55),
    "uniformer_small": (21_545_256, 3.63),
    "uniformer_small_plus": (24_032_552, 4.2),
    "uniformer_small_plus_dim64": (24_032_552, 4.2),
    "uniformer_base": (49_776_552, 8.25),
    "uniformer_base_ls": (49_796_520, 8.25),
    "cswin_tiny_224": (22_320_552, 4.32),
    "cswin_small_224": (34_643_304, 6.8),
    "cswin_base_224": (77_382_184, 14.96),
    "cswin_base_384": (77_382_184, 46.96),
    "cswin_large_224": (173_262_664, 33.13),
    "cswin_large_384": (173_262_664, 101.88),
}
# One of each kind runs always; the others differ in size alone.
ALWAYS = {
    "dynamic_dwnet_tiny",
    "i_dynamic_dwnet_tiny",
    "convnextv2_atto",
    "dinat_mini",
    "mixer_s32_224",
}
ALWAYS |= {next(iter(family.VARIANTS)) for family in FAMILIES}
TINY = dict(embed_dim=8, depths=(1, 1, 2, 1), num_classes=5)


def abstract_model(name, **overrides):
    return nnx.eval_shape(lambda: dwconv_jax.create_model(name, **overrides, rngs=nnx.Rngs(0)))


def test_every_variant_is_listed():
    assert set(EXPECTED) == set(VARIANTS)
    assert set(dwconv_jax.list_models()) == set(VARIANTS) | set(TASK_VARIANTS)


def test_names_of_other_libraries_are_taken():
    assert set(ALIASES.values()) <= set(VARIANTS) and not set(ALIASES) & set(VARIANTS)
    model = abstract_model("swin_tiny_patch4_window7_224", **TINY, num_heads=1)
    assert nnx.graphdef(model) == nnx.graphdef(abstract_model("swin_tiny", **TINY, num_heads=1))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__.split(".")[-1])
def test_copies_are_of_the_same_kind(family):
    """Else every copied or unpickled model would be compiled again."""
    model = abstract_model(next(iter(family.VARIANTS)))
    graph = nnx.graphdef(model)
    assert nnx.graphdef(copy.deepcopy(model)) == pickle.loads(pickle.dumps(graph)) == graph


def test_pretrained_weights_are_loaded(tmp_path):
    def make(**overrides):
        return dwconv_jax.create_model(
            "dwnet_tiny", embed_dim=4, depths=(1,), rngs=nnx.Rngs(0), **overrides
        )

    path = tmp_path / "weights.safetensors"
    source = drawn(lambda: make(num_classes=5))
    source.head.bias[...] = jnp.arange(5.0)
    dwconv_jax.convert.write_state_dict(path, dwconv_jax.convert.to_torch(source))
    loaded = make(pretrained=path, num_classes=5)
    assert bool((loaded.head.bias[...] == source.head.bias[...]).all())
    fewer = make(pretrained=path, num_classes=3)
    assert bool((fewer.patch_embed.proj.kernel[...] == source.patch_embed.proj.kernel[...]).all())
    assert fewer.head.bias.shape == (3,)
    with pytest.raises(UserError, match="only the head differs"):
        make(pretrained=path)


def abstract_features(name, size, **overrides):
    def build_and_call():
        model = dwconv_jax.create_model(name, **overrides, rngs=nnx.Rngs(0))
        return model.features(jnp.zeros((1, size, size, 3)))

    return jax.eval_shape(build_and_call)


@pytest.mark.parametrize(
    "name",
    [n if n in ALWAYS else pytest.param(n, marks=pytest.mark.slow) for n in EXPECTED],
)
def test_parameters_and_multiply_adds(name):
    model = abstract_model(name)
    num_params = sum(p.size for p in jax.tree.leaves(nnx.state(model, nnx.Param)))
    gmacs = round(multiply_adds(model, VARIANTS[name].image_size) / 1e9, 2)
    assert (
        (num_params, gmacs) == EXPECTED[name] == (VARIANTS[name].num_params, VARIANTS[name].gmacs)
    )


def test_multiply_adds_do_not_depend_on_the_lowering():
    kinds = [
        dict(connectivity="window"),
        dict(connectivity="grid"),
        dict(border="clamp"),
        dict(border="wrap"),
        dict(stride=2),
    ]
    models = [
        abstract_model(
            "dwnet_tiny", embed_dim=8, depths=(1,), patch_size=1, num_classes=0,
            mixer=dict(connectivity="sliding", kernel_size=4, dynamic="attention", groups=2) | kind,
        )
        for kind in kinds
    ]  # fmt: skip
    projections = 64 * 8 * 8 * (4 + 2 + 8)  # in the mixer, around it, in the MLP
    stem = 64 * 3 * 8
    attention = 2 * 64 * 8 * 16  # 16 keys of every query
    counts = {multiply_adds(model, 8) for model in models}
    assert counts == {stem + projections + attention}


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("dwnet_tiny", {}),
        ("dynamic_dwnet_tiny", {}),
        ("i_dynamic_dwnet_tiny", dict(channels_per_group=(2, 4, 8, 16))),
        ("swin_tiny", dict(num_heads=(1, 2, 4, 8))),
    ],
)
def test_any_input_size(name, overrides):
    model = drawn(lambda: dwconv_jax.create_model(name, **TINY, **overrides, rngs=nnx.Rngs(0)))
    graph, state = nnx.split(model)

    @jax.jit
    def apply(state, images):
        model = nnx.merge(graph, state)
        return model(images), model.features(images)

    logits, maps = apply(state, jax.random.normal(jax.random.key(0), (2, 50, 37, 3)))
    assert logits.shape == (2, 5) and logits.dtype == jnp.float32
    assert [m.shape for m in maps] == [
        (2, 13, 10, 8), (2, 7, 5, 16), (2, 4, 3, 32), (2, 2, 2, 64)
    ]  # fmt: skip
    assert all(bool(jnp.isfinite(m).all()) for m in maps)


def test_overrides_reach_the_layers():
    model = abstract_model(
        "swin_tiny", embed_dim=8, depths=(2, 1), num_heads=(2, 4), window_size=(5, 3),
        mlp_ratio=2.0, drop_path_rate=0.3, in_channels=1, patch_size=2, dtype=jnp.bfloat16,
    )  # fmt: skip
    first, second = model.stages[0].blocks
    assert (first.mixer.connectivity.window_size, first.mixer.connectivity.shift) == (
        (5, 5),
        (0, 0),
    )
    assert second.mixer.connectivity.shift == (2, 2)
    assert model.stages[1].blocks[0].mixer.connectivity.window_size == (3, 3)
    assert [b.drop_path.rate for s in model.stages for b in s.blocks] == [0, 0.15, 0.3]
    assert second.mlp.fc1.kernel.shape == (8, 16)
    assert model.patch_embed.proj.kernel.shape == (4, 8)
    maps = abstract_features("swin_tiny", 32, **TINY, num_heads=1, dtype="bfloat16")
    assert {m.dtype for m in maps} == {jnp.dtype("bfloat16")}


@pytest.mark.parametrize(
    ("name", "mixer"),
    [
        ("dwnet_tiny", dict(connectivity="window", dynamic="attention", groups=(1, 2, 4, 8))),
        ("dwnet_tiny", dict(connectivity="window", groups=4, share_positions=False)),
        ("swin_tiny", dict(connectivity="sliding", dynamic="centre", channels_per_group=4)),
        ("swin_tiny", dict(connectivity="global", groups=1)),
    ],
)
def test_any_mixer_goes_into_either_block(name, mixer):
    overrides = dict(**TINY, window_size=3, mixer=mixer, image_size=32)
    last = abstract_model(name, **overrides).stages[-1].blocks[-1].mixer
    assert last.dynamic == mixer.get("dynamic", "none")
    assert abstract_features(name, 32, **overrides)[-1].shape == (1, 1, 1, 64)


def test_without_a_head_classifiers_return_pooled_features(rng):
    model = dwconv_jax.create_model(
        "dwnet_tiny", embed_dim=4, depths=(1, 1), num_classes=0, rngs=nnx.Rngs(0)
    )
    images = jnp.array(rng.normal(size=(2, 16, 16, 3)), jnp.float32)
    pooled = model.norm(model.features(images)[-1]).mean((1, 2))
    assert_close(model(images), pooled, 1e-5)
    assert not any("head" in name for name in dwconv_jax.convert.to_torch(model))


def test_heads_start_as_in_the_original():
    def head(name, **overrides):
        def initialize():
            model = dwconv_jax.create_model(name, num_classes=400, rngs=nnx.Rngs(0), **overrides)
            return model.head.kernel[...]

        return jax.jit(initialize)()

    assert not head("mixer_s32_224", embed_dim=8, depths=(1,)).any()
    halonet = head("halonet26t", embed_dim=64, depths=(1,))
    assert float(halonet.std()) == pytest.approx(0.01, rel=0.05)


def test_drop_path_drops_whole_samples():
    drop = DropPath(0.5, rngs=nnx.Rngs(0))
    y = drop(jnp.ones((64, 2, 2, 3)), deterministic=False, rngs=nnx.Rngs(1))
    per_sample = y.reshape(64, -1)
    assert bool((per_sample.min(1) == per_sample.max(1)).all())
    assert set(per_sample[:, 0].tolist()) == {0.0, 2.0}


def test_drop_path_is_for_training(rng):
    model = dwconv_jax.create_model(
        "dwnet_tiny", embed_dim=4, depths=(1,), num_classes=2, drop_path_rate=0.9, rngs=nnx.Rngs(0)
    )
    images = jnp.array(rng.normal(size=(4, 8, 8, 3)), jnp.float32)
    assert bool((model(images) == model(images)).all())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (dict(name="dwnet_tny"), "unknown model 'dwnet_tny'; did you mean 'dwnet_tiny'.*swin_base"),
        (
            dict(name="dwnet_tiny", embed_dm=3),
            "unknown override 'embed_dm'; did you mean 'embed_dim'",
        ),
        (dict(name="dwnet_tiny", num_heads=3), "num_heads=3 does not go with 'dwnet_tiny'"),
        (dict(name="swin_tiny", channels_per_group=3), "channels_per_group=3 does not go with"),
        (dict(name="dwnet_tiny", mixer=dict(dynamik="none")), "unknown mixer flag 'dynamik'"),
        (dict(name="dwnet_tiny", mixer=dict(groups=(1, 2))), "one for each of 4 stages"),
        (
            dict(name="dwnet_tiny", mixer=dict(groups=1, channels_per_group=1)),
            "both groups and channels_per_group",
        ),
        (
            dict(name="i_dynamic_dwnet_tiny", embed_dim=64),
            "channels_per_group=3 must divide the 64",
        ),
        (dict(name="dwnet_tiny", num_classes=-1), "num_classes must be an int >= 0, got -1"),
        (dict(name="upernet_dwnet_tiny", num_classes=0), "num_classes must be an int >= 1, got 0"),
        (dict(name="cascade_mask_rcnn_swin_tiny", num_classes="3"), "num_classes must be an int"),
        (dict(name="dwnet_tiny", depths=()), r"depths must be one int for each stage, got \(\)"),
        (dict(name="dwnet_tiny", depths=(1, "2")), "each of depths must be an int >= 0, got '2'"),
        (dict(name="dwnet_tiny", embed_dim=0), "embed_dim must be an int >= 1, got 0"),
        (dict(name="dwnet_tiny", patch_size=2.5), "patch_size must be an int >= 1, got 2.5"),
        (
            dict(name="dwnet_tiny", embed_dim=(8, 16)),
            r"embed_dim=\(8, 16\) must be one value or one",
        ),
        (dict(name="dwnet_tiny", mlp_ratio=-1), "mlp_ratio must be a number above 0, got -1"),
        (dict(name="dwnet_tiny", drop_path_rate=2.0), "drop_path_rate must be .* below 1, got 2.0"),
        (dict(name="dwnet_tiny", image_size="224"), "image_size must be an int >= 1.* got '224'"),
        (dict(name="dwnet_tiny", remat=3), "remat must be True or False, got 3"),
        (dict(name="dwnet_tiny", squeeze_excitation="no"), "squeeze_excitation must be True or"),
        (dict(name="dwnet_tiny", dtype="floaty"), "dtype must be a floating dtype .* got 'floaty'"),
        (dict(name="dwnet_tiny", param_dtype="int32"), "param_dtype must be a floating dtype"),
        (dict(name="dwnet_tiny", mixer=3), "mixer must be a mapping of flags, got 3"),
        (
            dict(name="dwnet_tiny", mixer=dict(dynamic="pooled", reduction=-1)),
            "reduction must be at least 1, got -1",
        ),
        (
            dict(name="dwnet_tiny", pretrained=True),
            "pretrained must be a path or a repository, got True",
        ),
        (
            dict(name="swin_tiny", depths=(1, 1)),
            r"num_heads=\(3, 6, 12, 24\) must be one value or one for each of 2 stages",
        ),
        (dict(name="dwnet_tiny", mixer=dict(connectivity="global")), "map_size must be"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(UserError, match=message):
        dwconv_jax.create_model(**call, rngs=nnx.Rngs(0))


def test_wrong_images_are_named():
    model = abstract_model("dwnet_tiny", **TINY)
    with pytest.raises(ValueError, match="images must be floating"):
        model(jnp.zeros((1, 32, 32, 3), jnp.uint8))
    with pytest.raises(ValueError, match=r"images must be \[B, H, W, 3\], got 1 channels"):
        model(jnp.zeros((1, 32, 32, 1)))
