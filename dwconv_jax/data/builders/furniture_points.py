"""The tfds data set `furniture_points`: clouds of real furniture, prepared without a network.

    apt-get install sweethome3d-furniture
    python -m dwconv_jax.data.builders.furniture_points

Without root, `apt-get download sweethome3d-furniture && dpkg -x *.deb DIR` unpacks the package, and
`--source=DIR/usr/share/sweethome3d/furniture` names its folder.
"""

import argparse
import pathlib
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from dwconv_jax.data.builders.furniture import CLASSES, Item, list_items, sample_points

SOURCE = "/usr/share/sweethome3d/furniture"
_NUM_POINTS = 2048
# Every third model of a class is for testing.
_TEST_SHARE = 3


class FurniturePoints(tfds.core.GeneratorBasedBuilder):
    """444 models of the furniture catalogues of Sweet Home 3D, as clouds of 2,048 points.

    14 classes, by category and name: appliances, baths (and washbasins), beds, cabinets (and
    shelves), chairs, doors (and windows), lamps, persons, plants, sofas (and armchairs), switches
    (and sockets), tables, vehicles, vessels. Points are random on the surface, every area alike,
    within the unit sphere; the second axis points up. 302 models to train and 142 to test.

    The models are by Scopia, Reallusion, Andrew Kator and Jennifer Legaz, and the contributors of
    BlendSwap, under CC BY 3.0 and CC0.
    """

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "`apt-get install sweethome3d-furniture`, then "
        "`python -m dwconv_jax.data.builders.furniture_points`"
    )

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=FurniturePoints.__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "points": tfds.features.Tensor(shape=(_NUM_POINTS, 3), dtype=np.float32),
                    "label": tfds.features.ClassLabel(names=CLASSES),
                }
            ),
            supervised_keys=("points", "label"),
            homepage="https://www.sweethome3d.com",
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        train, test = split_by_class(list_items(pathlib.Path(dl_manager.manual_dir)))
        return {"train": self._generate_examples(train), "test": self._generate_examples(test)}

    def _generate_examples(self, items: list[Item]) -> Iterator[tuple[str, dict[str, Any]]]:
        for item in items:
            points = sample_points(item, _NUM_POINTS)
            yield item.id, {"points": points, "label": item.label}


def split_by_class(items: list[Item]) -> tuple[list[Item], list[Item]]:
    """Splits items into two thirds and one third of every class, at random but always alike."""
    train: list[Item] = []
    test: list[Item] = []
    for label in CLASSES:
        own = [item for item in items if item.label == label]
        for position, item in enumerate(sorted(own, key=lambda item: zlib.crc32(item.id.encode()))):
            (train if (position + 1) % _TEST_SHARE else test).append(item)
    return train, test


def prepare(source: str = SOURCE, data_dir: str | None = None) -> str:
    """Prepares `furniture_points` from the catalogues in `source`, unless it is prepared already.

    Args:
      source: folder with the `.sh3f` files.
      data_dir: where tfds keeps its data sets; None is tfds's default.

    Returns:
      The folder of the prepared data set.

    Raises:
      FileNotFoundError: there are no such files.
      UserError: a file is no catalogue, or lacks a model.
    """
    builder = tfds.builder("furniture_points", data_dir=data_dir)
    if not builder.is_prepared():
        list_items(pathlib.Path(source))
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir=source, try_download_gcs=False)
        )
    return builder.data_dir


def main() -> None:
    """Prepares the data set and prints its folder."""
    parser = argparse.ArgumentParser(description="Prepares furniture_points without a network.")
    parser.add_argument("--source", default=SOURCE, help="folder with the .sh3f files")
    parser.add_argument("--data_dir", help="where tfds keeps its data sets (default: its own)")
    args = parser.parse_args()
    print("furniture_points is prepared in", prepare(args.source, args.data_dir))


if __name__ == "__main__":
    main()
