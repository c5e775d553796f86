"""Compares logits with those of timm: see `tests/golden/generate/hub_folders.py`."""

import sys
from pathlib import Path

import numpy as np

import dwconv_jax


def main() -> None:
    """Prints the largest error of each folder as a part of the largest logit."""
    for folder in sorted(Path(sys.argv[1]).iterdir()):
        expected = np.load(folder / "logits.npy")
        model = dwconv_jax.create_model(pretrained=folder)
        logits = model(dwconv_jax.preprocess(model)(folder / "picture.png"), train=False)
        error = abs(logits - expected).max() / abs(expected).max()
        print(f"{folder.name:32} {error:.1e}", flush=True)


if __name__ == "__main__":
    main()
