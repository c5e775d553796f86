"""Artifacts run where there is only JAX, for any batch size, and give the model's numbers."""

import subprocess
import sys

import jax
import numpy as np
import pytest
from flax import nnx
from jax import export

from dwconv_jax import create_model
from dwconv_jax.export import PLATFORMS, export_model
from tests.models.test_fold import trained

MEAN, STD = (0.3, 0.4, 0.5), (0.2, 0.25, 0.3)
MODELS = {
    "dwnet_tiny": {},
    "dynamic_dwnet_tiny": {},
    "i_dynamic_dwnet_tiny": dict(channels_per_group=2),
    "swin_tiny": dict(num_heads=2, depths=(2, 1)),
}

_SCRIPT = """
import pathlib, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("dwconv_jax", "flax", "optax", "tensorflow", "clu"):
            raise ImportError(f"{name} is not installed")

sys.meta_path.insert(0, Refuse())

import jax
import numpy as np
from jax import export

folder = pathlib.Path(sys.argv[1])
pixels = np.load(folder / "pixels.npy")
for path in folder.glob("*.jaxexport"):
    exported = export.deserialize(bytearray(path.read_bytes()))
    logits = [np.asarray(exported.call(pixels[:batch])) for batch in (1, 5)]
    np.save(path.with_suffix(".npy"), np.concatenate(logits))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What the models say of some pixels, and what their artifacts say in another process."""
    folder = tmp_path_factory.mktemp("artifacts")
    pixels = np.random.default_rng(0).integers(0, 256, (5, 10, 10, 3), dtype=np.uint8)
    np.save(folder / "pixels.npy", pixels)
    images = (pixels / 255 - MEAN) / STD
    expected, programs = {}, {}
    for name, options in MODELS.items():
        model = trained(name, **options)
        logits = np.asarray(jax.jit(lambda x, model=model: model(x))(images.astype(np.float32)))
        expected[name] = np.concatenate([logits[:1], logits])
        programs[name] = export_model(model, (10, 10, 3), mean=MEAN, std=STD)
        (folder / f"{name}.jaxexport").write_bytes(programs[name].serialize())
    subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(folder)],
        check=True,
        cwd=folder,
        env={"JAX_PLATFORMS": "cpu", "PATH": ""},
    )
    found = {name: np.load(folder / f"{name}.npy") for name in MODELS}
    return expected, found, programs


@pytest.mark.parametrize("name", MODELS)
def test_artifacts_equal_their_models_without_this_package(name, answers):
    expected, found, _ = answers
    scale = np.abs(expected[name]).max()
    assert np.abs(found[name] - expected[name]).max() <= 1e-5 * scale


@pytest.mark.parametrize("name", MODELS)
def test_one_program_for_every_platform_and_batch(name, answers):
    program = answers[2][name]
    assert program.platforms == PLATFORMS == ("cpu", "cuda", "tpu")
    (pixels,), (logits,) = program.in_avals, program.out_avals
    assert export.is_symbolic_dim(pixels.shape[0]) and pixels.dtype == np.uint8
    assert logits.shape == (pixels.shape[0], 3)
    assert "Dwconv" not in program.mlir_module()


@pytest.mark.parametrize("name", ["mixer_s32_224", "pvt_v2_b0"])
def test_models_that_flatten_maps_take_any_batch(name):
    model = nnx.eval_shape(lambda: create_model(name, num_classes=3, rngs=nnx.Rngs(0)))
    graph, state = nnx.split(model)
    images = jax.ShapeDtypeStruct((*export.symbolic_shape("batch"), 224, 224, 3), np.float32)
    logits = jax.eval_shape(lambda state, x: nnx.merge(graph, state)(x), state, images)
    assert logits.shape == (images.shape[0], 3)
