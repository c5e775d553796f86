"""Detection data: from files to batches, whole and in shares, and what is said of mistakes."""

import itertools
import json
import pathlib
from collections.abc import Callable, Iterator

import ml_collections
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from dwconv_jax import data
from dwconv_jax.data.builders.scenes import Scenes
from dwconv_jax.data.dataset import Batch
from dwconv_jax.data.detection.masks import encode_mask
from dwconv_jax.data.detection.preprocess import picture
from dwconv_jax.data.picture import read_picture

MakeConfig = Callable[..., ml_collections.ConfigDict]
SIZES = ((40, 60), (60, 40), (48, 64), (64, 48), (50, 50), (40, 60), (20, 60))
# Grey levels of the objects: the class can be seen in the picture.
SHADES = (100, 250)


def write_split(root: pathlib.Path, split: str) -> None:
    """Black pictures with a box and an L, both filled; the fifth has a crowd alone, one nothing."""
    content: dict = {"images": [], "annotations": [], "categories": []}
    content["categories"] = [{"id": 5, "name": "ell"}, {"id": 3, "name": "box"}]
    (root / split).mkdir(parents=True)
    (root / "annotations").mkdir(exist_ok=True)
    for i, (height, width) in enumerate(SIZES):
        pixels = np.zeros((height, width, 3), np.uint8)
        content["images"].append(
            {"id": 10 + i, "file_name": f"{i}.png", "height": height, "width": width}
        )
        ell = np.zeros((height, width), bool)
        ell[20:36, 24:28] = ell[32:36, 24:38] = True
        shapes = [(3, [4, 6, 16, 10], [[4, 6, 20, 6, 20, 16, 4, 16]], 0)]
        shapes += [(5, [24, 20, 14, 16], encode_mask(ell), 0)]
        if i == 4:
            shapes = [(3, [0, 0, 50, 50], {"size": [50, 50], "counts": [0, 2500]}, 1)]
        elif i == 5:
            shapes = []
        else:
            pixels[6:16, 4:20] = SHADES[0]
            pixels[ell] = SHADES[1]
        for category, box, mask, crowd in shapes:
            content["annotations"].append(
                {
                    "id": len(content["annotations"]),
                    "image_id": 10 + i,
                    "category_id": category,
                    "bbox": box,
                    "segmentation": mask,
                    "iscrowd": crowd,
                }
            )
        Image.fromarray(pixels).save(root / split / f"{i}.png")
    path = root / "annotations" / f"instances_{split}.json"
    path.write_text(json.dumps(content))


@pytest.fixture
def root(tmp_path: pathlib.Path) -> pathlib.Path:
    for split in "train", "val":
        write_split(tmp_path, split)
    return tmp_path


@pytest.fixture
def make_config(root: pathlib.Path) -> MakeConfig:
    def make(**fields: object) -> ml_collections.ConfigDict:
        return ml_collections.ConfigDict(
            {
                "name": "folder",
                "data_dir": str(root),
                "train_split": "train",
                "eval_split": "val",
                "max_pixels": 50_000_000,
                "num_train": None,
                "num_classes": None,
                "max_objects": 3,
                "canvases": ((64, 96), (96, 64), (96, 96)),
                "scale": (96, 64),
                "train_shortest": (48, 64),
                "crop_shortest": (40, 50),
                "crop_range": (30, 40),
                "flip": True,
                "mean": (0.0, 0.0, 0.0),
                "std": (1.0, 1.0, 1.0),
                **fields,
            }
        )

    return make


def assert_same(batch: Batch, expected: Batch) -> None:
    assert batch.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(batch[name], expected[name], strict=True)


def test_training_batches(make_config: MakeConfig) -> None:
    dataset = data.load_detection(make_config())
    # One picture has no annotation and one is tiny; crowds alone are shown, with nothing to find.
    assert (dataset.num_train, dataset.num_eval) == (5, 7)
    assert dataset.class_names == ("box", "ell")
    for batch in itertools.islice(dataset.train_batches(2, seed=0), 4):
        height, width = batch["image"].shape[1:3]
        assert (height, width) in make_config().canvases
        expected = {
            "image": ((2, height, width, 3), np.float32),
            "size": ((2, 2), np.int32),
            "boxes": ((2, 3, 4), np.float32),
            "classes": ((2, 3), np.int32),
            "masks": ((2, 3, height, width // 8), np.uint8),
        }
        assert {k: (v.shape, v.dtype) for k, v in batch.items()} == expected


def test_objects_are_where_the_pixels_are(make_config: MakeConfig) -> None:
    """Through flip, resize, crop and resize: masks and boxes fit what can be seen."""
    seen = 0
    dataset = data.load_detection(make_config())
    for batch in itertools.islice(dataset.train_batches(4, seed=1), 8):
        for i, (height, width) in enumerate(batch["size"]):
            image = batch["image"][i, ..., 0] * 255
            assert not image[height:].any() and not image[:, width:].any()
            masks = np.unpackbits(batch["masks"][i], axis=-1).astype(bool)
            for box, k, mask in zip(batch["boxes"][i], batch["classes"][i], masks, strict=True):
                if k < 0:
                    assert not box.any() and not mask.any()
                    continue
                visible = np.abs(image - SHADES[k]) < 50
                if k == 1:  # edges pass through the other shade
                    assert (mask & visible).sum() >= 0.6 * max(mask.sum(), visible.sum())
                ys, xs = np.nonzero(mask)
                if len(ys):
                    found = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
                    np.testing.assert_allclose(box, found, atol=3)
                    seen += 1
    assert seen > 30


def test_resuming_gives_the_same_batches(make_config: MakeConfig) -> None:
    config = make_config()
    whole = data.load_detection(config).train_batches(2, seed=3)
    resumed = data.load_detection(config).train_batches(2, seed=3, start_step=3)
    for expected in itertools.islice(whole, 3, 6):
        assert_same(next(resumed), expected)


def test_processes_share_the_batches(make_config: MakeConfig) -> None:
    dataset = data.load_detection(make_config())
    for batches in (
        lambda **share: dataset.train_batches(4, seed=0, **share),
        lambda **share: dataset.eval_batches(4, **share),
    ):
        whole = list(itertools.islice(batches(), 3))
        shares = [
            list(itertools.islice(batches(process_index=i, process_count=2), 3)) for i in (0, 1)
        ]
        for batch, first, second in zip(whole, *shares, strict=True):
            assert_same({k: np.concatenate([first[k], second[k]]) for k in batch}, batch)


def test_evaluation_is_exact(make_config: MakeConfig) -> None:
    dataset = data.load_detection(make_config())
    counted = []
    for batch in dataset.eval_batches(2):
        for i in range(2):
            expected = SIZES[batch["image_id"][i]]
            assert tuple(batch["original_size"][i]) == expected
            np.testing.assert_allclose(batch["scale"][i], batch["size"][i] / np.array(expected))
            assert tuple(batch["size"][i]) in {
                (64, 96),
                (96, 64),
                (64, 85),
                (85, 64),
                (64, 64),
                (32, 96),
            }
        counted += batch["image_id"][batch["mask"] == 1].tolist()
    assert sorted(counted) == list(range(7))
    content = dataset.eval_annotations()
    assert len(content["images"]) == 7
    # Two objects in five images, and a crowd.
    assert [a["iscrowd"] for a in content["annotations"]].count(0) == 10
    assert len(content["annotations"]) == 11


def test_a_huge_picture_is_a_batch(make_config: MakeConfig, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "huge.png"
    Image.new("RGB", (9000, 4500), (255, 0, 0)).save(path)
    batch = read_picture(path, lambda encoded: picture(encoded, make_config()))
    assert batch["image"].shape == (1, 64, 96, 3)
    assert batch["original_size"].tolist() == [[4500, 9000]]
    assert batch["size"].tolist() == [[48, 96]]
    np.testing.assert_allclose(batch["image"][0, :48], np.tile([[[1.0, 0, 0]]], (48, 96, 1)))


def test_other_layouts(make_config: MakeConfig, root: pathlib.Path) -> None:
    (root / "images").mkdir()
    (root / "train").rename(root / "images" / "train")
    (root / "annotations" / "instances_val.json").rename(root / "val" / "_annotations.coco.json")
    assert data.load_detection(make_config()).num_train == 5


def test_missing_files_are_named(make_config: MakeConfig, root: pathlib.Path) -> None:
    (root / "train" / "2.png").unlink()
    message = f"1 of the 7 images of {root}/annotations/instances_train.json are missing; .*2.png"
    with pytest.raises(FileNotFoundError, match=message):
        data.load_detection(make_config())
    message = f"dataset.eval_split='test': there is no {root}/annotations/instances_test.json with"
    with pytest.raises(FileNotFoundError, match=message):
        data.load_detection(make_config(train_split="val", eval_split="test"))


def all_batches(config: ml_collections.ConfigDict, split: str) -> list[Batch]:
    dataset = data.load_detection(config)
    if split == "train":
        return list(itertools.islice(dataset.train_batches(2, seed=0), 4))
    return list(dataset.eval_batches(2))


@pytest.mark.parametrize("split", ["train", "val"])
def test_unreadable_images_are_named(
    make_config: MakeConfig, root: pathlib.Path, split: str
) -> None:
    for i in 0, 1, 2:
        (root / split / f"{i}.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=rf"cannot read {root}/{split}/\d.png: "):
        all_batches(make_config(), split)


@pytest.mark.parametrize("split", ["train", "val"])
def test_images_of_another_size_are_named(
    make_config: MakeConfig, root: pathlib.Path, split: str
) -> None:
    for i in 0, 1, 2:
        Image.new("RGB", (50, 33)).save(root / split / f"{i}.png")
    message = rf"{root}/{split}/\d.png: the image is 33 x 50 and the annotations say \d+ x \d+"
    with pytest.raises(ValueError, match=message):
        all_batches(make_config(), split)


def test_splits_must_agree(make_config: MakeConfig, root: pathlib.Path) -> None:
    path = root / "annotations" / "instances_val.json"
    path.write_text(path.read_text().replace("ell", "elk"))
    with pytest.raises(
        ValueError, match="have other categories: 3 box, 5 ell against 3 box, 5 elk"
    ):
        data.load_detection(make_config())


def test_nothing_to_learn_is_said(make_config: MakeConfig, root: pathlib.Path) -> None:
    for split in "train", "val":
        path = root / "annotations" / f"instances_{split}.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "annotations": []}))
        with pytest.raises(
            ValueError, match=f"dataset.(train|eval)_split='{split}' has no objects"
        ):
            data.load_detection(make_config(train_split="train", eval_split=split))
        write_split(root / "other", split)
        (root / "other" / "annotations" / f"instances_{split}.json").rename(path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(max_objects=1), "dataset.max_objects=1: image '0.png' has 2 objects, .*set it to 2"),
        (dict(num_classes=3), "dataset.num_classes=3: 'folder' has 2 classes; legal are that and"),
        (dict(num_train=0), "dataset.num_train=0 must be None or a positive int"),
        (dict(max_objects=0), "dataset.max_objects=0 must be a positive int"),
        (dict(canvases=((64, 96),)), "dataset.canvases=.*: none holds images of 96 x 96"),
        (dict(canvases=()), r"dataset.canvases=\(\) must be pairs of a height and a width"),
        (dict(canvases=((64, 95),)), "dataset.canvases=.* multiples of 32"),
        (dict(scale=(32, 64)), r"dataset.scale=\(32, 64\) must be the longest and the shortest"),
        (dict(train_shortest=()), r"dataset.train_shortest=\(\) must be one or more positive"),
        (dict(crop_shortest=(0,)), r"dataset.crop_shortest=\(0,\) must be positive ints or"),
        (dict(crop_range=(40, 30)), "dataset.crop_range=.* must be the smallest and the largest"),
        (dict(flip=1), "dataset.flip=1 must be True or False"),
        (dict(mean=(0.5,)), r"dataset.mean=\(0.5,\) must be three numbers in 0..1"),
        (dict(data_dir=None), "dataset.data_dir=None: with dataset.name='folder' it must be"),
        (dict(name="digits", data_dir=None), "dataset.name='digits' has no instance masks: it ne"),
        (dict(name="coco/2017", data_dir=None), "boxes but no masks, which the mask heads learn"),
    ],
)
def test_illegal_values_are_named(make_config: MakeConfig, fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        data.load_detection(make_config(**fields))


def test_odd_batches_are_refused(make_config: MakeConfig) -> None:
    dataset = data.load_detection(make_config())
    with pytest.raises(ValueError, match="batch_size=3 must be even: losses are normalized over p"):
        next(dataset.train_batches(3, seed=0))
    with pytest.raises(ValueError, match="batch_size=6 exceeds the 5 examples"):
        dataset.steps_per_epoch(6)


def test_data_that_is_not_there_is_described(make_config: MakeConfig) -> None:
    """Enough to compile a training step of its largest shape."""
    nowhere = dict(data_dir="/nowhere")
    dataset = data.describe_detection(make_config(num_train=99, num_classes=2, **nowhere))
    assert (dataset.num_classes, dataset.num_train, dataset.steps_per_epoch(4)) == (2, 99, 24)
    there = data.load_detection(make_config())
    batches = itertools.islice(there.train_batches(2, seed=0), 40)
    largest = max(batches, key=lambda batch: batch["image"].size)
    spec = {k: ((2, *s.shape), s.dtype) for k, s in dataset.train_spec().items()}
    assert {k: (v.shape, v.dtype) for k, v in largest.items()} == spec
    for missing in "num_train", "num_classes":
        fields = {"num_train": 9, "num_classes": 2, missing: None}
        with pytest.raises(
            ValueError, match=f"{missing}=None.*: of a folder that is not opened both"
        ):
            data.describe_detection(make_config(**fields, **nowhere))


@pytest.fixture(scope="module")
def scenes_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    config = Scenes.BUILDER_CONFIGS[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "num_train", 12)
        patch.setattr(config, "num_test", 5)
        yield str(tmp_path_factory.mktemp("tfds"))


def test_scenes(make_config: MakeConfig, scenes_dir: str) -> None:
    """Boxes and masks are those of the instance maps."""
    fields = dict(
        name="scenes/digits",
        data_dir=scenes_dir,
        eval_split="test",
        scale=(64, 64),
        canvases=((64, 64),),
    )
    plain = dict(train_shortest=(64,), crop_shortest=(), flip=False, max_objects=6)
    dataset = data.load_detection(make_config(**fields, **plain))
    assert dataset.class_names == tuple("0123456789")
    assert (dataset.num_train, dataset.num_eval) == (12, 5)
    (batch,) = itertools.islice(dataset.train_batches(12, seed=0), 1)
    builder = tfds.builder("scenes/digits", data_dir=scenes_dir)
    examples = {e["image"].tobytes(): e for e in tfds.as_numpy(builder.as_dataset("train"))}
    for i in range(12):
        example = examples[np.round(batch["image"][i] * 255).astype(np.uint8).tobytes()]
        count = len(example["objects"]["label"])
        assert batch["classes"][i].tolist()[:count] == example["objects"]["label"].tolist()
        assert (batch["classes"][i, count:] == -1).all()
        top_left_first = example["objects"]["bbox"][:, [1, 0, 3, 2]] * 64
        np.testing.assert_allclose(batch["boxes"][i, :count], top_left_first, atol=2e-3)
        masks = np.unpackbits(batch["masks"][i], axis=-1)
        for k in range(6):
            np.testing.assert_array_equal(masks[k], example["instances"][..., 0] == k + 1)
    assert sum(b["mask"].sum() for b in dataset.eval_batches(4)) == 5
