import pathlib
from collections.abc import Callable

import ml_collections
import numpy as np
import pytest
from PIL import Image

from dwconv_jax import data

MakeConfig = Callable[..., ml_collections.ConfigDict]


@pytest.fixture(scope="session")
def make_config(tmp_path_factory: pytest.TempPathFactory) -> MakeConfig:
    """Makes configurations, of digits unless told otherwise, away from the user's tfds folder."""
    tfds_dir = str(tmp_path_factory.mktemp("tfds"))

    def make(**fields: object) -> ml_collections.ConfigDict:
        return ml_collections.ConfigDict(
            {
                "name": "digits",
                "data_dir": tfds_dir,
                "train_split": "train",
                "eval_split": "test",
                "max_pixels": 1_000_000,
                "num_train": None,
                "image_size": 8,
                "mean": (0.0,),
                "std": (1.0,),
                "augment": "none",
                "rand_augment_magnitude": None,
                "rand_augment_std": 0.0,
                "color_jitter": 0.0,
                "random_erasing": 0.0,
                "eval_resize": None,
                "shuffle_buffer": 10_000,
                "max_unreadable": 0,
                **fields,
            }
        )

    return make


@pytest.fixture(scope="session")
def digits(make_config: MakeConfig) -> data.ClassificationDataset:
    return data.load_classification(make_config())


@pytest.fixture
def folder_config(tmp_path: pathlib.Path, make_config: MakeConfig) -> MakeConfig:
    """Makes configurations of a folder: 8 JPEG and PNG files to train on, 5 to evaluate on.

    All images of a split show the same thing; every training image has a class of its own.
    """
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    image = Image.fromarray(pixels).resize((40, 30), Image.Resampling.BICUBIC)
    for split, count in ("train", 8), ("test", 5):
        for i in range(count):
            folder = tmp_path / "images" / split / f"class{i}"
            folder.mkdir(parents=True)
            image.save(folder / ("image.JPEG" if i % 2 else "image.png"), quality=95)

    def make(**fields: object) -> ml_collections.ConfigDict:
        root = str(tmp_path / "images")
        return make_config(**{"name": "folder", "data_dir": root, "image_size": 16, **fields})

    return make
