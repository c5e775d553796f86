"""Type checkers pass a user's script, and know what each name of a model gives."""

import subprocess
import sys
import tomllib
from pathlib import Path

import dwconv_jax
from tests import model_names

ROOT = Path(dwconv_jax.__file__).parent.parent
SCRIPT = """
import jax
import jax.numpy as jnp
from flax import nnx

import dwconv_jax
from dwconv_jax import LocallyConnected, ops
from dwconv_jax.models import Classifier

images = jnp.zeros((2, 32, 32, 3))
classifier = dwconv_jax.create_model("dwnet_tiny", num_classes=10, rngs=nnx.Rngs(0))
logits: jax.Array = classifier(images, train=True)
segmenter = dwconv_jax.create_model("upernet_swin_tiny", rngs=nnx.Rngs(0))
pixels: jax.Array = segmenter(images, train=True, rngs=nnx.Rngs(1))
detector = dwconv_jax.create_model("cascade_mask_rcnn_swin_tiny", rngs=nnx.Rngs(0))
boxes: jax.Array = detector(images, jnp.array([[32, 32]])).boxes
named: Classifier = dwconv_jax.create_model(str("swin_tiny"), rngs=nnx.Rngs(0))

layer = LocallyConnected(
    8, connectivity="window", kernel_size=(7, None), dynamic="attention", groups=4, rngs=nnx.Rngs(0)
)
graph, state = nnx.split(layer)
y: jax.Array = nnx.merge(graph, state)(images)
y = ops.depthwise_conv(images, jnp.zeros((3, 3, 3)))
y = ops.locally_connected(images, jnp.zeros((1, 1, 1, 9, 3)), ops.Sliding(3))

dwconv_jax.convert.load_torch(classifier, "dwnet_tiny.pth")
trained = dwconv_jax.load("runs/digits", checkpoint="best")
trained.predict(trained.read_picture("seven.png"))
"""
MISTAKES = SCRIPT.replace("boxes: jax.Array", "boxes: str").replace("train=True", "trains=True")


def check_types(script, folder):
    path = folder / "script.py"
    path.write_text(script)
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--ignore-missing-imports"]
    result = subprocess.run([*command, path], cwd=ROOT, capture_output=True, text=True)
    return [line for line in result.stdout.splitlines() if ": error:" in line] + [result.stderr]


def test_a_script_of_a_user_passes(tmp_path):
    assert check_types(SCRIPT, tmp_path) == [""]


def test_mistakes_of_a_user_are_found(tmp_path):
    assert len(check_types(MISTAKES, tmp_path)) == 4


def test_type_checkers_know_every_name():
    assert model_names.PATH.read_text() == model_names.text(), "run `make names`"


def test_types_are_shipped():
    assert Path(dwconv_jax.__file__).with_name("py.typed").exists()


def test_editable_installations_can_be_followed():
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert pyproject["tool"]["distutils"]["editable_wheel"]["mode"] == "compat"
