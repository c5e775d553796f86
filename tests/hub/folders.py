"""Compares models from a cache of the Hugging Face hub with timm, from the photo to the logits:

    python -m tests.hub.folders FOLDER

`tests/golden/generate/hub_folders.py` makes the folder. Prints the largest differences of inputs
and logits over their largest values.
"""

import os
import sys
from pathlib import Path

import jax
import numpy as np
from flax import nnx

import dwconv_jax

BOUND = 2e-3


def main(folder: Path) -> None:
    """Prints a line a model; exits with 1 if any differs by more than the bound."""
    # Before the first use of huggingface_hub, which reads them once.
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(folder / "hub")}
    expected = np.load(folder / "expected.npz")
    names = [key.removesuffix("/logits") for key in expected if key.endswith("/logits")]
    worst = 0.0
    print(f"{'model':<40}{'inputs':>10}{'logits':>10}")
    for name in names:
        inputs, logits = run(f"hf-hub:timm/{name}", folder / "photo.png")
        errors = [
            difference(actual, expected[f"{name}/{kind}"])
            for kind, actual in (("inputs", inputs), ("logits", logits))
        ]
        print(f"{name:<40}" + "".join(f"{error:>10.1e}" for error in errors), flush=True)
        worst = max(worst, errors[1])
    sys.exit(worst > BOUND)


def run(name: str, photo: Path) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and logits."""
    model = dwconv_jax.create_model(name)
    inputs = dwconv_jax.preprocess(model)(photo)
    graph, state = nnx.split(model)
    logits = jax.jit(lambda state, x: nnx.merge(graph, state)(x, train=False))(state, inputs)
    return inputs, np.asarray(logits)


def difference(actual: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference over largest value."""
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
