"""Mutated annotations, label maps and images: read rightly, or refused in one sentence.

The long versions run with `make test-slow`.
"""

import copy
import dataclasses
import io
import json
import math
import pathlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from pycocotools import mask as mask_utils

from dwconv_jax.data.classification.config import ClassificationConfig
from dwconv_jax.data.detection.coco import Annotations, read_annotations
from dwconv_jax.data.detection.config import DetectionConfig
from dwconv_jax.data.detection.masks import encode_mask, to_rle
from dwconv_jax.data.image.content import UnreadableError, admit
from dwconv_jax.data.image.decode import decode, open_image
from dwconv_jax.data.segmentation.config import SegmentationConfig
from dwconv_jax.data.segmentation.label_map import decode_label_map, read_label_map
from dwconv_jax.data.settings import Settings
from dwconv_jax.data.unreadable import reason
from dwconv_jax.errors import UserError
from tests.data.photographs import photograph
from tests.data.png import GRAY, PALETTE, RGB, chunk, encode_png

MAX_PIXELS = 10_000


def cases(few: int, many: int) -> pytest.MarkDecorator:
    """Runs a test on seeded cases: few of them, and many if slow tests are wanted."""
    slow = pytest.param(many, marks=[pytest.mark.slow, pytest.mark.timeout(4 * 3600)])
    return pytest.mark.parametrize("count", [few, slow])


# ---- Annotations.

HEIGHT, WIDTH = 20, 30
NASTY: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 7, 0.5, 4095.5, -0.0, 1e9, 1e18, -1e300, 10**400, -(2**63),
    2**31, 2**32 + 5, 2**40, math.nan, math.inf, -math.inf, "", "7", "12", "a.png", "../a.png",
    "/etc/passwd", "\x00", "\ud800", "é" * 70, [], [[]], [[[]]], {}, {"id": 1}, [1, 2, 3],
    [0, HEIGHT * WIDTH], [0.5, HEIGHT * WIDTH - 0.5], [-10, HEIGHT * WIDTH + 10],
    [HEIGHT, WIDTH], [[1, 1, 5, 1, 5, 5, 1, 5]], [[1e18, 1, 5, 1, 5, 5]],
    {"size": [HEIGHT, WIDTH], "counts": "12"},
    {"size": [HEIGHT, WIDTH], "counts": [300, 10, 290]},
)  # fmt: skip


def annotation_file() -> dict[str, Any]:
    blob = np.zeros((HEIGHT, WIDTH), bool)
    blob[5:12, 8:21] = True
    masks = [
        [[2, 3, 12.5, 3, 12, 11, 2, 11], [15, 15, 20, 15, 20, 19]],
        encode_mask(blob),
        encode_mask(~blob),
        {"size": [HEIGHT, WIDTH], "counts": [0, 300, 300]},
    ]
    return {
        "images": [
            {"id": i, "file_name": f"{i}.png", "height": HEIGHT, "width": WIDTH} for i in (7, 9)
        ],
        "categories": [{"id": 18, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": [
            {
                "id": i,
                "image_id": (7, 9)[i % 2],
                "category_id": (2, 18)[i // 2],
                "bbox": [2, 3, 15, 9],
                "area": 60,
                "iscrowd": int(i == 3),
                "segmentation": mask,
            }
            for i, mask in enumerate(masks)
        ],
    }


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container of a JSON value with each of its keys."""
    keys = value.keys() if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], dict | list):
            yield from places(value[key])


def mutate(content: Any, rng: random.Random) -> None:
    """Changes one entry of a JSON value in place."""
    container, key = rng.choice(list(places(content)))
    value, kind = container[key], rng.random()
    if kind < 0.1:
        del container[key]
    elif kind < 0.15 and isinstance(container, list):
        container.insert(key, copy.deepcopy(value))
    elif kind < 0.55 and isinstance(value, str) and value:
        place = rng.randrange(len(value))
        container[key] = value[:place] + chr(rng.randrange(32, 127)) + value[place + 1 :]
    elif kind < 0.55 and type(value) in (int, float) and abs(value) < 1e300:
        container[key] = value + rng.choice([-1, 1, 0.5, -1000, 10**6])
    else:
        container[key] = copy.deepcopy(rng.choice(NASTY))


def mutated_text(rng: random.Random) -> bytes:
    content = annotation_file()
    for _ in range(rng.choice([1, 1, 2, 4])):
        if any(True for _ in places(content)):
            mutate(content, rng)
    text = bytearray(json.dumps(content).encode())
    if rng.random() < 0.1:  # break the file itself
        place = rng.randrange(len(text))
        nested = rng.choice([b"[", b'{"a":']) * 100_000
        text[place : place + 1] = rng.choice([b"", b"\xff", b"}", bytes(3), nested])
    return bytes(text)


def expected_mask(segmentation: dict) -> np.ndarray:
    """A reference decoder of RLEs, which knows nothing of pycocotools."""
    counts = segmentation["counts"]
    if isinstance(counts, str):
        runs: list[int] = []
        value = shift = 0
        for character in counts:
            code = ord(character) - 48
            value |= (code & 31) << shift
            shift += 5
            if not code & 32:
                value -= (1 << shift) if code & 16 else 0
                runs.append(value + (runs[-2] if len(runs) > 2 else 0))
                value = shift = 0
        counts = runs
    flat = np.concatenate([np.full(n, i % 2, np.uint8) for i, n in enumerate(counts)])
    return flat.reshape(segmentation["size"][::-1]).T


def check_annotations(annotations: Annotations) -> None:
    """All that training and evaluation take from annotations can be taken."""
    annotations.num_objects()
    for image, entries in enumerate(annotations.annotations):
        size = tuple(annotations.sizes[image])
        objects = annotations.objects(image)
        assert np.isfinite(objects.boxes).all()
        for i in range(len(objects.classes)):
            assert objects.mask(i).shape == size
        for entry in entries:
            mask = mask_utils.decode(to_rle(entry["segmentation"], *map(int, size)))
            assert mask.shape == size and set(np.unique(mask)) <= {0, 1}
            if isinstance(entry["segmentation"], dict):
                np.testing.assert_array_equal(mask, expected_mask(entry["segmentation"]))
    json.dumps(annotations.to_evaluate(), default=bytes.decode)


@cases(400, 100_000)
def test_mutated_annotations_are_read_or_refused(tmp_path: pathlib.Path, count: int) -> None:
    file, read = tmp_path / "a.json", 0
    for seed in range(count):
        file.write_bytes(mutated_text(random.Random(seed)))
        try:
            annotations = read_annotations(str(file), MAX_PIXELS)
        except UserError as error:
            message = str(error)
            assert message.startswith(f"{file}: ") and "\n" not in message, seed
            assert len(message) < len(str(file)) + 400, seed
        else:
            check_annotations(annotations)
            read += 1
    assert count // 20 < read < count // 2  # mutations are neither all harmless nor all caught


# ---- Files.


def mutated_bytes(content: bytes, rng: random.Random) -> bytes:
    """Flips, cuts and inserts bytes; half of the PNGs get a right checksum of their header."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 8])):
        # Headers decide what a file is.
        end = min(len(data), rng.choice([34, 64, len(data)]))
        if not end:
            break
        place, kind = rng.randrange(end), rng.random()
        if kind < 0.7:
            data[place] = rng.randrange(256)
        elif kind < 0.8:
            del data[place:]
        elif kind < 0.9:
            del data[place : place + rng.randrange(1, 9)]
        else:
            data[place:place] = rng.randbytes(rng.randrange(1, 9))
    if content.startswith(b"\x89PNG") and len(data) > 33 and rng.random() < 0.5:
        data[8:33] = chunk(b"IHDR", bytes(data[16:29]))
    return bytes(data)


def check_sentence(error: Exception, what: str) -> None:
    message = reason(error) if isinstance(error, tf.errors.OpError) else str(error)
    assert message.startswith(f"the {what} ") and "\n" not in message and "{{" not in message


def label_maps() -> list[bytes]:
    labels = np.arange(13 * 9).reshape(13, 9) * 5
    kinds = [(d, k) for k in (GRAY, PALETTE) for d in (1, 2, 4, 8)] + [(16, GRAY), (8, RGB)]
    return [encode_png(labels % min(2**depth, 256), depth, kind) for depth, kind in kinds]


@tf.function(input_signature=[tf.TensorSpec([], tf.string)])
def labels_in_graph(encoded: tf.Tensor) -> tf.Tensor:
    return decode_label_map(encoded, False, MAX_PIXELS)


@cases(300, 20_000)
def test_mutated_label_maps_are_read_or_refused(count: int) -> None:
    originals = label_maps()
    for seed in range(count):
        rng = random.Random(seed)
        content = mutated_bytes(rng.choice(originals), rng)
        try:
            expected = read_label_map(content, MAX_PIXELS)
        except UnreadableError as error:
            check_sentence(error, "label map")
            with pytest.raises(tf.errors.OpError):
                labels_in_graph(tf.constant(content))
        else:
            np.testing.assert_array_equal(labels_in_graph(tf.constant(content)), expected)
            assert expected.dtype == np.uint8 and expected.size <= MAX_PIXELS


def images() -> list[bytes]:
    formats = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")
    buffers = [io.BytesIO() for _ in formats]
    for file_format, buffer in zip(formats, buffers, strict=True):
        photograph(width=50, height=40).save(buffer, file_format)
    return [buffer.getvalue() for buffer in buffers]


@tf.function(input_signature=[tf.TensorSpec([], tf.string)])
def image_in_graph(encoded: tf.Tensor) -> tf.Tensor:
    return decode(admit(encoded, MAX_PIXELS), 3)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # of corrupt metadata
@cases(300, 20_000)
def test_mutated_images_are_read_or_refused(count: int) -> None:
    originals = images()
    for seed in range(count):
        rng = random.Random(seed)
        content = mutated_bytes(rng.choice(originals), rng)
        try:
            expected = open_image(tf.constant(content), 3, MAX_PIXELS)
        except UnreadableError as error:
            check_sentence(error, "image")
            with pytest.raises(tf.errors.OpError):
                image_in_graph(tf.constant(content))
        else:
            np.testing.assert_array_equal(image_in_graph(tf.constant(content)), expected)
            assert expected.shape[0] * expected.shape[1] <= MAX_PIXELS
            if content.startswith(b"\x89PNG"):  # has checksums: what is read is what was written
                pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
                assert pixels.shape == expected.shape


# ---- Fields of `config.dataset`.


def complaint(kind: type[Settings], **fields: Any) -> str | None:
    try:
        kind(**fields)
    except UserError as error:
        return str(error)
    return None


@pytest.mark.parametrize("kind", [ClassificationConfig, SegmentationConfig, DetectionConfig])
def test_nasty_fields_are_legal_or_named(kind: type[Settings]) -> None:
    for field in dataclasses.fields(kind):
        for value in (*NASTY, (), ((),), ("a",), (1, 0), (-1, -1), (10**400,), (math.nan,) * 3):
            start = f"config.dataset.{field.name}="
            assert (complaint(kind, **{field.name: value}) or start).startswith(start)
        assert complaint(kind, **{field.name: {"a": [math.nan]}})
