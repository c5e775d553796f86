"""The tfds data set `scenes`: real items on real photographs, with exact masks and boxes."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from dwconv_jax.data.builders.compose import Item, compose

_SEED = 0


@dataclasses.dataclass(kw_only=True)
class ScenesConfig(tfds.core.BuilderConfig):
    """Scenes of the items of a data set of gray images, which has the same name.

    Attributes:
      classes: names of the items' labels.
      inked: whether gray levels are the amount of ink; otherwise they are brightness on black.
      size: height and width of a scene.
      num_train: number of scenes of training items.
      num_test: number of scenes of test items.
    """

    classes: tuple[str, ...]
    inked: bool
    size: int = 64
    num_train: int = 6000
    num_test: int = 500


class Scenes(tfds.core.GeneratorBasedBuilder):
    """Two to four real items at random sizes, angles and places on a crop of a real photograph.

    Later items cover earlier ones. `instances` is the item visible at a pixel (0 for the
    photograph, i + 1 for the i-th of `objects`), `annotation` its class (0 for the photograph,
    label + 1 for items), and boxes are tight around visible parts. Training scenes hold training
    items on the left part of scikit-learn's photographs, test scenes test items on the right part.
    """

    VERSION = tfds.core.Version("1.2.0")
    RELEASE_NOTES = {  # noqa: RUF012  (as tfds spells it)
        "1.1.0": "Items are larger, and less of them is covered.",
        "1.2.0": "Small scenes of fewer, larger and lighter items on dark photographs.",
    }
    BUILDER_CONFIGS = [  # noqa: RUF012  (as tfds spells it)
        ScenesConfig(
            name="digits",
            description="Handwritten digits; nothing to download.",
            classes=tuple("0123456789"),
            inked=True,
        ),
        ScenesConfig(
            name="fashion_mnist",
            description="Garments; `fashion_mnist` must be prepared.",
            classes=(
                "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
                "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
            ),
            inked=False,
        ),
    ]  # fmt: skip

    builder_config: ScenesConfig

    def _info(self) -> tfds.core.DatasetInfo:
        config = self.builder_config
        shape = (config.size, config.size)
        return tfds.core.DatasetInfo(
            builder=self,
            description=Scenes.__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(*shape, 3)),
                    "annotation": tfds.features.LabeledImage(
                        shape=(*shape, 1), labels=["background", *config.classes]
                    ),
                    "instances": tfds.features.Image(shape=(*shape, 1)),
                    "objects": tfds.features.Sequence(
                        {
                            "bbox": tfds.features.BBoxFeature(),
                            "label": tfds.features.ClassLabel(names=config.classes),
                        }
                    ),
                }
            ),
            supervised_keys=("image", "annotation"),
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        del dl_manager
        config = self.builder_config
        items = self._load_items()
        return {
            "train": self._generate_examples("train", items["train"], config.num_train),
            "test": self._generate_examples("test", items["test"], config.num_test),
        }

    def _load_items(self) -> dict[str, list[Item]]:
        name = self.builder_config.name
        builder = tfds.builder(name, data_dir=self.data_dir_root)
        if not builder.is_prepared() and builder.url_infos:
            raise FileNotFoundError(
                f"the items of scenes/{name} are not prepared in {builder.data_dir}: run "
                f"`tfds build {name} --data_dir={self.data_dir_root}` once, or without a network "
                f"`python -m dwconv_jax.data.builders.{name} --data_dir={self.data_dir_root}`"
            )
        builder.download_and_prepare()
        return {
            split: [self._item(**example) for example in tfds.as_numpy(builder.as_dataset(split))]
            for split in ("train", "test")
        }

    def _item(self, image: np.ndarray, label: int) -> Item:
        gray = image[..., 0]
        if self.builder_config.inked:
            return Item(np.full_like(gray, 255), gray, int(label))
        return Item(gray, silhouette(gray), int(label))

    def _generate_examples(
        self, split: str, items: list[Item], count: int
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        photographs = load_photographs(split)
        size = self.builder_config.size
        for index in range(count):
            rng = np.random.default_rng([_SEED, ("train", "test").index(split), index])
            scene = compose(items, photographs, size, rng)
            boxes = scene.boxes() / size
            yield (
                index,
                {
                    "image": scene.image,
                    "annotation": scene.label_map()[..., None],
                    "instances": scene.instances[..., None],
                    "objects": [
                        {"bbox": tfds.features.BBox(*box), "label": label}
                        for box, label in zip(boxes.tolist(), scene.labels, strict=True)
                    ],
                },
            )


def load_photographs(split: str) -> list[np.ndarray]:
    """scikit-learn's photographs, uint8 `[427, w, 3]`: the left 60% to train, the rest to test."""
    from sklearn.datasets import load_sample_images

    images = load_sample_images().images
    cut = [image.shape[1] * 3 // 5 for image in images]
    if split == "train":
        return [image[:, :c] for image, c in zip(images, cut, strict=True)]
    return [image[:, c:] for image, c in zip(images, cut, strict=True)]


def silhouette(gray: np.ndarray) -> np.ndarray:
    """Opacity of an item on black: all pixels that black does not reach from the border."""
    from scipy.ndimage import binary_fill_holes

    return np.where(binary_fill_holes(gray > 0), 255, 0).astype(np.uint8)
