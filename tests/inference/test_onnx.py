"""ONNX graphs give the model's numbers in ONNX Runtime; `make test-extras` runs this file."""

import json
import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import dwconv_jax
from dwconv_jax.errors import UserError
from dwconv_jax.inference.export import export_run
from dwconv_jax.inference.onnx import OPSET, export_onnx, onnx_program
from dwconv_jax.models.families.halonet import blocked_attention
from dwconv_jax.models.registry import FAMILIES
from tests.models.test_fold import with_statistics

MEAN, STD = (0.3, 0.4, 0.5), (0.2, 0.25, 0.3)
SMALL = dict(embed_dim=8, depths=(1, 1), window_size=3, patch_size=2, num_classes=3)
FAMILY = dict(depths=(1, 1, 1, 1), embed_dim=8, num_classes=3)
UPERNET = dict(depths=(1, 1, 1, 1), num_classes=3, head_features=8, auxiliary_features=8)
# The side of the images, and options that make the model small.
MODELS = {
    "dwnet_tiny": (10, SMALL),
    "dynamic_dwnet_tiny": (10, SMALL),
    "i_dynamic_dwnet_tiny": (10, SMALL | dict(channels_per_group=2)),
    "swin_tiny": (10, SMALL | dict(num_heads=2, depths=(2, 1))),
    "swinv2_tiny_window8_256": (32, FAMILY | dict(num_heads=2, depths=(2, 1), window_size=4)),
    "convnext_tiny": (32, FAMILY | dict(embed_dim=(8, 8, 8, 8))),
    "convnextv2_tiny": (32, FAMILY | dict(embed_dim=(8, 8, 8, 8))),
    "efficientnet_lite0": (
        32, FAMILY | dict(depths=(1, 1), mlp_ratio=(1, 6), mixer=dict(kernel_size=(3, 5)))
    ),
    "nat_mini": (32, FAMILY | dict(num_heads=2)),
    "dinat_mini": (32, FAMILY | dict(num_heads=2, depths=(2, 1, 1, 1))),
    "halonet26t": (
        64, FAMILY | dict(embed_dim=32, mixer=blocked_attention(2, block=2, halo=1))
    ),
    "maxvit_tiny_tf_224": (64, FAMILY | dict(window_size=2, channels_per_group=4)),
    "cswin_tiny_224": (32, FAMILY | dict(num_heads=2, window_size=(1, 2, 2, 1))),
    "pvt_v2_b0": (64, FAMILY | dict(num_heads=2)),
    "pvt_v2_b2_li": (64, FAMILY | dict(num_heads=2)),
    "uniformer_small_plus": (32, FAMILY | dict(channels_per_group=(1, 1, 8, 8))),
    "swin_mlp_tiny_c6": (32, FAMILY | dict(num_heads=2, depths=(2, 1), window_size=4)),
    "mixer_s32_224": (32, dict(embed_dim=16, depths=(1,), patch_size=8, image_size=32,
                               num_classes=3)),
    "upernet_dwnet_tiny": (32, UPERNET | dict(embed_dim=8, window_size=3)),
    "upernet_swin_tiny": (32, UPERNET | dict(embed_dim=8, num_heads=2, window_size=4)),
}  # fmt: skip


def small(name, **options):
    """A small model whose branches all count; those of some families start at zero."""
    options = MODELS[name][1] | options
    model = nnx.eval_shape(lambda: dwconv_jax.create_model(name, **options, rngs=nnx.Rngs(0)))
    rng = np.random.default_rng(0)

    def draw(parameter):
        values = rng.standard_normal(parameter.shape, np.float32)
        return jnp.asarray(values / math.sqrt(math.prod(parameter.shape[:-1])), parameter.dtype)

    nnx.update(model, jax.tree.map(draw, nnx.state(model, nnx.Any(nnx.Param, nnx.BatchStat))))
    return with_statistics(model)


def test_every_family_has_a_model():
    assert [f.__name__ for f in FAMILIES if not f.VARIANTS.keys() & MODELS.keys()] == []


@pytest.mark.extras
@pytest.mark.parametrize("name", MODELS)
def test_graphs_equal_their_models(name, rng):
    model, (size, _) = small(name), MODELS[name]
    program = onnx_program(export_onnx(model, (size, size, 3), mean=MEAN, std=STD))
    pixels = rng.integers(0, 256, (3, size, size, 3), dtype=np.uint8)
    images = ((pixels / 255 - MEAN) / STD).astype(np.float32)
    expected = np.asarray(jax.jit(lambda x: model(x, train=False))(images))
    for batch in (1, 3):
        found = program(pixels[:batch])
        assert np.abs(found - expected[:batch]).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.extras
def test_a_graph_states_its_opset_and_computes_in_float32():
    import onnx

    model = small("dwnet_tiny", dtype="bfloat16")
    graph = onnx.load_from_string(export_onnx(model, (10, 10, 3), mean=MEAN, std=STD))
    onnx.checker.check_model(graph, full_check=True)
    assert [entry.version for entry in graph.opset_import if entry.domain == ""] == [OPSET]
    dtypes = {tensor.data_type for tensor in graph.graph.initializer}
    assert onnx.TensorProto.BFLOAT16 not in dtypes
    assert all(node.op_type != "Einsum" for node in graph.graph.node)


@pytest.mark.extras
def test_a_run_becomes_a_graph(trained_run, tmp_path):
    out = tmp_path / "digits.onnx"
    message = export_run(str(trained_run[1]), str(out), format="onnx")
    assert f"step 12, ONNX opset {OPSET}, 0.1 MB" in message
    assert onnx_program(out.read_bytes())(np.zeros((3, 8, 8, 1), np.uint8)).shape == (3, 10)
    assert len(json.loads(out.with_suffix(".json").read_text())["classes"]) == 10


class Calling(nnx.Module):
    def __call__(self, x, train):
        return jax.pure_callback(lambda x: x, jax.ShapeDtypeStruct((2,), x.dtype), x[0, 0, 0, :2])


@pytest.mark.extras
def test_what_cannot_be_exported_names_the_operator():
    with pytest.raises(UserError, match=r"operator that ONNX export lacks: .*pure_callback"):
        export_onnx(Calling(), (10, 10, 3), mean=MEAN, std=STD)


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    with pytest.raises(UserError, match=r"pip install 'dwconv-jax\[onnx\]'"):
        export_onnx(Calling(), (10, 10, 3), mean=MEAN, std=STD)
