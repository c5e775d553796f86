"""The parts that other projects import need JAX, Flax and NumPy alone."""

import subprocess
import sys

_FORBIDDEN = (
    "clu", "matplotlib", "ml_collections", "sklearn", "tensorboard", "tensorflow", "torch",
)  # fmt: skip

_SCRIPT = f"""
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {_FORBIDDEN} + ("tensorflow_datasets", "safetensors"):
            raise ImportError(f"{{name}} is not installed")

sys.meta_path.insert(0, Refuse())

import jax
import jax.numpy as jnp
from flax import nnx
import dwconv_jax
from dwconv_jax import convert, layers, linen, models, ops
from dwconv_jax.convert import __main__

layer = dwconv_jax.LocallyConnected(4, kernel_size=3, rngs=nnx.Rngs(0))
assert layer(jnp.ones((1, 5, 5, 4))).shape == (1, 5, 5, 4)
loaded = {{name.split(".")[0] for name in sys.modules}}
assert not loaded & set({_FORBIDDEN}), loaded
"""


def test_core_imports_with_nothing_but_jax_and_flax():
    result = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
