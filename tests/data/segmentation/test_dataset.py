import itertools
import pathlib
from collections.abc import Callable, Iterator

import jax
import ml_collections
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from dwconv_jax import data
from dwconv_jax.data.builders.scenes import Scenes
from dwconv_jax.data.picture import read_picture
from dwconv_jax.data.segmentation.dataset import Batch
from dwconv_jax.data.segmentation.preprocess import picture

MakeConfig = Callable[..., ml_collections.ConfigDict]
SIZES = ((30, 40), (40, 30), (30, 41), (64, 48), (30, 40))


def write_pair(image_path: pathlib.Path, label_path: pathlib.Path, size: tuple[int, int]) -> None:
    """A picture whose label map follows its pixels: label k where red is 40 k."""
    labels = np.add.outer(np.arange(size[0]) // 5, np.arange(size[1]) // 7) % 5
    image = np.stack([labels * 40, 0 * labels, 255 - 40 * labels], -1)
    for path, array in (image_path, image), (label_path, labels):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array.astype(np.uint8)).save(path)


@pytest.fixture
def root(tmp_path: pathlib.Path) -> pathlib.Path:
    for split in "training", "validation":
        for i, size in enumerate(SIZES):
            write_pair(
                tmp_path / "images" / split / f"{i}.png",
                tmp_path / "annotations" / split / f"{i}.png",
                size,
            )
    return tmp_path


@pytest.fixture
def make_config(root: pathlib.Path) -> MakeConfig:
    def make(**fields: object) -> ml_collections.ConfigDict:
        return ml_collections.ConfigDict(
            {
                "name": "folder",
                "data_dir": str(root),
                "train_split": "training",
                "eval_split": "validation",
                "max_pixels": 1_000_000,
                "num_train": None,
                "num_classes": 5,
                "class_names": (),
                "zero_is_ignored": False,
                "crop_size": 32,
                "scale": (64, 32),
                "scale_range": (0.5, 2.0),
                "max_class_share": 0.75,
                "flip": True,
                "photometric": True,
                "size_multiple": 1,
                "eval_scales": (1.0,),
                "eval_flip": False,
                "mean": (0.0, 0.0, 0.0),
                "std": (1.0, 1.0, 1.0),
                "shuffle_buffer": 10,
                "max_unreadable": 0,
                **fields,
            }
        )

    return make


def assert_same(batch: Batch, expected: Batch) -> None:
    assert batch.keys() == expected.keys()
    for array, wanted in zip(jax.tree.leaves(batch), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(array, wanted, strict=True)


def test_training_batches(make_config: MakeConfig) -> None:
    batch = next(data.load_segmentation(make_config()).train_batches(4, seed=0))
    assert (batch["image"].shape, batch["image"].dtype) == ((4, 32, 32, 3), np.float32)
    assert (batch["label"].shape, batch["label"].dtype) == ((4, 32, 32), np.int32)
    assert set(np.unique(batch["label"])) <= {0, 1, 2, 3, 4, 255}


def test_labels_follow_the_pixels(make_config: MakeConfig) -> None:
    """Resizing, cropping, flipping and padding move image and label map together."""
    dataset = data.load_segmentation(make_config(photometric=False, scale_range=(0.6, 1.4)))
    for batch in itertools.islice(dataset.train_batches(5, seed=1), 4):
        seen = np.round(batch["image"][..., 0] * 255 / 40)
        valid = batch["label"] != 255
        assert (seen[valid] == batch["label"][valid]).mean() > 0.8  # the rest is interpolated
        assert (batch["image"][~valid] == 0).all()


def test_resuming_gives_the_same_batches(make_config: MakeConfig) -> None:
    config = make_config()
    whole = data.load_segmentation(config).train_batches(2, seed=3)
    resumed = data.load_segmentation(config).train_batches(2, seed=3, start_step=3)
    for expected in itertools.islice(whole, 3, 6):
        assert_same(next(resumed), expected)


def test_processes_share_the_batches(make_config: MakeConfig) -> None:
    dataset = data.load_segmentation(make_config())
    for batches in (
        lambda **share: dataset.train_batches(4, seed=0, **share),
        lambda **share: dataset.eval_batches(4, **share),
    ):
        whole = list(itertools.islice(batches(), 3))
        shares = [
            list(itertools.islice(batches(process_index=i, process_count=2), 3)) for i in (0, 1)
        ]
        for batch, first, second in zip(whole, *shares, strict=True):
            joined = jax.tree.map(lambda a, b: np.concatenate([a, b]), first, second)
            assert_same(joined, batch)


def test_evaluation_is_exact(make_config: MakeConfig) -> None:
    """Every picture once, at its original size; batches of one shape are filled up."""
    dataset = data.load_segmentation(make_config(size_multiple=1))
    batches = list(dataset.eval_batches(2))
    shapes = sorted(batch["views"][0].shape[1:3] for batch in batches)
    assert shapes == [(32, 43), (32, 44), (43, 32), (43, 32)]
    sizes = [tuple(s) for b in batches for s, m in zip(b["size"], b["mask"], strict=True) if m]
    assert sorted(sizes) == sorted(SIZES)
    for batch in batches:
        counted = (batch["label"] != 255).sum((1, 2))
        np.testing.assert_array_equal(counted, batch["size"].prod(1) * batch["mask"])


def test_views_at_several_scales(make_config: MakeConfig) -> None:
    """Sizes as the reference computes them: int(side * scale) bounds both sides."""
    dataset = data.load_segmentation(make_config(eval_scales=(0.5, 1.0, 1.75)))
    shapes = {
        tuple(batch["size"][0]): [view.shape[1:3] for view in batch["views"]]
        for batch in dataset.eval_batches(2)
    }
    assert shapes[30, 40] == [(16, 21), (32, 43), (56, 75)]
    assert shapes[30, 41] == [(16, 22), (32, 44), (56, 77)]


def test_a_picture_is_a_batch(make_config: MakeConfig, root: pathlib.Path) -> None:
    config = make_config()
    expected = next(data.load_segmentation(config).eval_batches(1))
    path = root / "images" / "validation" / "0.png"
    actual = read_picture(path, lambda encoded: picture(encoded, config))
    assert expected.pop("mask") == 1
    assert (actual.pop("label") == 255).all() and expected.pop("label").shape == (1, 30, 40)
    assert_same(actual, expected)


def test_shapes_are_bounded(make_config: MakeConfig) -> None:
    dataset = data.load_segmentation(make_config(size_multiple=16))
    for batch in dataset.eval_batches(5):
        assert not np.array(batch["views"][0].shape[1:3]) % 16 @ [1, 1]
        assert batch["label"].shape[1:] == (128, 128)
        counted = (batch["label"] != 255).sum((1, 2))
        np.testing.assert_array_equal(counted, batch["size"].prod(1) * batch["mask"])


def test_zero_is_no_class(make_config: MakeConfig) -> None:
    plain = next(data.load_segmentation(make_config()).eval_batches(1))
    fewer = make_config(zero_is_ignored=True, num_classes=4)
    (shifted, *_) = data.load_segmentation(fewer).eval_batches(1)
    expected = np.where(plain["label"] % 255 == 0, 255, plain["label"] - 1)
    np.testing.assert_array_equal(shifted["label"], expected)


def test_the_authors_layout(make_config: MakeConfig, root: pathlib.Path) -> None:
    for split, ours in ("training", "train"), ("validation", "val"):
        (root / ours).mkdir()
        (root / "images" / split).rename(root / ours / "image")
        (root / "annotations" / split).rename(root / ours / "label")
    dataset = data.load_segmentation(make_config(train_split="train", eval_split="val"))
    assert (dataset.num_train, dataset.num_eval, dataset.num_classes) == (5, 5, 5)


def test_a_folder_has_names_for_its_classes(make_config: MakeConfig) -> None:
    names = ("sky", "sea", "sand", "rock", "tree")
    for fields in dict(num_classes=None), dict(num_classes=5):
        config = make_config(class_names=names, **fields)
        dataset = data.load_segmentation(config)
        assert (dataset.num_classes, dataset.class_names) == (5, names)
    described = data.describe_segmentation(make_config(class_names=names, num_train=9))
    assert described.class_names == names
    assert data.load_segmentation(make_config()).class_names == tuple("01234")


def test_a_missing_split_is_named(make_config: MakeConfig, root: pathlib.Path) -> None:
    message = f"dataset.eval_split='test': there is no {root}/images/test with .* or {root}/test/im"
    with pytest.raises(FileNotFoundError, match=message):
        data.load_segmentation(make_config(eval_split="test"))


def test_an_image_without_its_mask_is_named(make_config: MakeConfig, root: pathlib.Path) -> None:
    (root / "annotations" / "training" / "3.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of the 5 images in .*missing is 3\.png"):
        data.load_segmentation(make_config())


def all_batches(config: ml_collections.ConfigDict, split: str) -> list[Batch]:
    dataset = data.load_segmentation(config)
    if split == "training":
        return list(itertools.islice(dataset.train_batches(5, seed=0), 2))
    return list(dataset.eval_batches(2))


@pytest.mark.parametrize("split", ["training", "validation"])
def test_masks_of_another_size_are_named(
    make_config: MakeConfig, root: pathlib.Path, split: str
) -> None:
    Image.new("L", (40, 31)).save(root / "annotations" / split / "0.png")
    message = f"{split}/0.png with .*annotations/{split}/0.png: the image is 30 x 40 .* 31 x 40"
    with pytest.raises(ValueError, match=message):
        all_batches(make_config(), split)


@pytest.mark.parametrize("split", ["training", "validation"])
def test_labels_above_the_classes_are_named(make_config: MakeConfig, split: str) -> None:
    message = rf"{split}/\d.png with .*: label 4; legal are 0..3 and 255, for dataset.num_classes=4"
    with pytest.raises(ValueError, match=message):
        all_batches(make_config(num_classes=4), split)


def test_palette_maps_give_the_batches_of_gray_ones(
    make_config: MakeConfig, root: pathlib.Path
) -> None:
    expected = all_batches(make_config(), "training")
    for path in (root / "annotations").rglob("*.png"):
        labels = Image.open(path)
        labels.putpalette([128, 0, 0, 0, 128, 0] + 254 * [128, 128, 0])
        labels.save(path)
    for batch, wanted in zip(all_batches(make_config(), "training"), expected, strict=True):
        assert_same(batch, wanted)


@pytest.mark.parametrize("split", ["training", "validation"])
def test_color_maps_are_named(make_config: MakeConfig, root: pathlib.Path, split: str) -> None:
    Image.new("RGB", (40, 30)).save(root / "annotations" / split / "0.png")
    message = f"cannot read .*annotations/{split}/0.png: the label map is an RGB PNG; legal"
    with pytest.raises(ValueError, match=message):
        all_batches(make_config(), split)


def test_elongated_images_keep_a_row(make_config: MakeConfig, root: pathlib.Path) -> None:
    for split in "training", "validation":
        for i, size in enumerate([(1, 300), (300, 1)]):
            paths = (root / kind / split / f"{i}.png" for kind in ("images", "annotations"))
            write_pair(*paths, size)
    for split in "training", "validation":
        assert all_batches(make_config(), split)


@pytest.mark.parametrize("folder", ["images", "annotations"])
@pytest.mark.parametrize("split", ["training", "validation"])
def test_unreadable_files_are_named(
    make_config: MakeConfig, root: pathlib.Path, split: str, folder: str
) -> None:
    (root / folder / split / "4.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=rf"cannot read .*images/{split}/4.png with"):
        all_batches(make_config(), split)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(num_classes=None), "dataset.num_classes=None: 'folder' does not say how many"),
        (
            dict(class_names=("a", "b")),
            "num_classes=5 must be None or 2, the number of",
        ),
        (
            dict(class_names=("a", "a")),
            "class_names=.* must be different non-empty strings",
        ),
        (dict(class_names="ab"), "dataset.class_names='ab' must be different"),
        (dict(num_classes=255), r"dataset.num_classes=255 must be None or 1\.\.254"),
        (dict(crop_size=0), "dataset.crop_size=0 must be a positive int"),
        (dict(scale=(32, 64)), r"dataset.scale=\(32, 64\) must be the longest and the shortest"),
        (dict(scale_range=(0.0, 1.0)), "dataset.scale_range=.* must be 0 < low <= high"),
        (dict(max_class_share=0.0), r"dataset.max_class_share=0.0 must be in \(0, 1\]"),
        (dict(flip=1), "dataset.flip=1 must be True or False"),
        (dict(mean=(0.5,)), r"dataset.mean=\(0.5,\) must be three numbers in 0..1"),
        (dict(std=(0.0, 1.0, 1.0)), "dataset.std=.* must not be 0"),
        (dict(data_dir=None), "dataset.data_dir=None: with dataset.name='folder' it must be"),
        (dict(name="digits", data_dir=None), "dataset.name='digits' is no segmentation: .*label"),
    ],
)
def test_illegal_values_are_named(make_config: MakeConfig, fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        data.load_segmentation(make_config(**fields))


def test_a_missing_field_is_named(make_config: MakeConfig) -> None:
    config = make_config()
    del config.flip
    with pytest.raises(ValueError, match="dataset lacks flip"):
        data.load_segmentation(config)


@pytest.fixture
def mock_tfds() -> Iterator[None]:
    """ADE20K of tfds with random pixels: it stores the gray PNGs of SceneParsing as they are."""

    def as_dataset(self: object, *_: object, **__: object) -> tf.data.Dataset:
        image = tf.io.encode_jpeg(tf.zeros([20, 30, 3], tf.uint8))
        annotation = tf.io.encode_png(tf.fill([20, 30, 1], tf.constant(7, tf.uint8)))
        example = {"image": image, "annotation": annotation}
        return (
            tf.data.Dataset.from_tensors(example)
            .repeat(4)
            .apply(tf.data.experimental.assert_cardinality(4))
        )

    with tfds.testing.mock_data(num_examples=4, as_dataset_fn=as_dataset):
        yield


@pytest.mark.usefixtures("mock_tfds")
def test_scene_parse150_goes_through_both_pipelines(make_config: MakeConfig) -> None:
    fields = dict(name="scene_parse150", train_split="train", eval_split="test")
    config = make_config(**fields, zero_is_ignored=True, num_classes=150)
    dataset = data.load_segmentation(config)
    assert dataset.num_classes == 150
    batch = next(dataset.train_batches(2, seed=0))
    assert set(np.unique(batch["label"])) <= {6, 255}
    assert sum(b["mask"].sum() for b in dataset.eval_batches(3)) == 4


@pytest.fixture(scope="module")
def scenes_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("tfds"))


@pytest.fixture
def few_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scenes.BUILDER_CONFIGS[0], "num_train", 12)
    monkeypatch.setattr(Scenes.BUILDER_CONFIGS[0], "num_test", 5)


@pytest.mark.usefixtures("few_scenes")
def test_scenes_are_prepared_on_the_spot(make_config: MakeConfig, scenes_dir: str) -> None:
    fields = dict(name="scenes/digits", data_dir=scenes_dir, scale=(64, 64), num_classes=None)
    config = make_config(**fields, train_split="train", eval_split="test")
    dataset = data.load_segmentation(config)
    assert dataset.class_names == ("background", *"0123456789")
    assert (dataset.num_train, dataset.num_eval) == (12, 5)
    (first, second) = dataset.eval_batches(4)
    assert first["views"][0].shape == (4, 64, 64, 3)
    assert second["mask"].tolist() == [1, 0, 0, 0]


@pytest.mark.usefixtures("few_scenes")
def test_names_of_known_classes_may_be_replaced(make_config: MakeConfig, scenes_dir: str) -> None:
    fields = dict(name="scenes/digits", data_dir=scenes_dir, num_classes=None)
    splits = dict(train_split="train", eval_split="test")
    names = ("ground", *"abcdefghij")
    config = make_config(**fields, **splits, class_names=names)
    assert data.load_segmentation(config).class_names == names
    message = "dataset.class_names has 2 names, but 'scenes/digits' has 11 classes"
    with pytest.raises(ValueError, match=message):
        data.load_segmentation(make_config(**fields, **splits, class_names=("a", "b")))


@pytest.mark.usefixtures("few_scenes")
def test_scenes_hold_exact_objects(make_config: MakeConfig, scenes_dir: str) -> None:
    builder = tfds.builder("scenes/digits", data_dir=scenes_dir)
    builder.download_and_prepare()
    for example in tfds.as_numpy(builder.as_dataset("train")):
        instances, objects = example["instances"][..., 0], example["objects"]
        for i, (label, box) in enumerate(zip(objects["label"], objects["bbox"], strict=True)):
            rows, cols = np.nonzero(instances == i + 1)
            assert (example["annotation"][rows, cols, 0] == label + 1).all()
            expected = [rows.min(), cols.min(), rows.max() + 1, cols.max() + 1]
            np.testing.assert_allclose(box * 64, expected, atol=1e-4)
        assert len(objects["label"]) == instances.max()


def test_garments_must_be_prepared_first(make_config: MakeConfig, scenes_dir: str) -> None:
    fields = dict(name="scenes/fashion_mnist", data_dir=scenes_dir, num_classes=None)
    config = make_config(**fields, train_split="train", eval_split="test")
    with pytest.raises(FileNotFoundError, match="run `tfds build fashion_mnist --data_dir"):
        data.load_segmentation(config)


def test_a_folder_is_described_without_its_files(make_config: MakeConfig) -> None:
    fields = dict(data_dir="/nowhere", num_classes=150)
    dataset = data.describe_segmentation(make_config(**fields, num_train=20_210))
    assert (dataset.num_classes, dataset.steps_per_epoch(16)) == (150, 1263)
    spec = dataset.train_spec()
    assert spec == {"image": ((32, 32, 3), np.float32), "label": ((32, 32), np.int32)}
    with pytest.raises(ValueError, match=r"dataset.num_train=None: a folder that is not opened"):
        data.describe_segmentation(make_config(**fields))
