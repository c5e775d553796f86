"""Masks are checked before pycocotools reads them."""

import numpy as np
import pytest
from pycocotools import mask as mask_utils

from dwconv_jax.data.detection.masks import encode_mask, mask_complaint, to_rle

SIZE = (40, 60)


def rle(counts: object) -> dict:
    return {"size": list(SIZE), "counts": counts}


def compressed(*runs: int) -> str:
    """pycocotools's encoding of any runs, also of those that it would never write."""
    text, runs = "", np.array(runs)
    for i, run in enumerate(runs):
        value, more = int(run - runs[i - 2] if i > 2 else run), True
        while more:
            digit, value = value & 0x1F, value >> 5
            more = value != (-1 if digit & 0x10 else 0)
            text += chr(48 + digit + 0x20 * more)
    return text


def test_compressed_runs_are_understood_like_pycocotools_does() -> None:
    rng = np.random.default_rng(0)
    for share in 0.5, 0.02, 0.98, 0.0, 1.0:
        mask = rng.random(SIZE) < share
        encoded = encode_mask(mask)
        assert mask_complaint(encoded, *SIZE) is None
        np.testing.assert_array_equal(mask_utils.decode(to_rle(encoded, *SIZE)), mask)
        runs = mask_utils.frPyObjects(rle([1000, 400, 800, 100, 100]), *SIZE)["counts"].decode()
        assert runs == compressed(1000, 400, 800, 100, 100)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ("", "do not sum to 40 x 60 but to 0"),
        ("12", "do not sum to 40 x 60 but to 3"),
        (compressed(1000, 1399), "do not sum to 40 x 60 but to 2399"),
        (compressed(1000, 1401), "do not sum to 40 x 60 but to 2401"),
        (compressed(2500, -100), "must not be negative; one is -100"),
        (compressed(100, 100, 2**26, -(2**26), 2400), "must not be negative; one is -6"),
        ("garbage!", "are no compressed RLE: 'garbage!'"),
        ("P", "are no compressed RLE: 'P'"),  # breaks off within a run
        ("ooooooo0", "are no compressed RLE"),  # a run of more than 30 bits
        ("\u00e9", "are no compressed RLE"),
        ([0.5, 2399.5], "must be a string, or ints"),
        ([True, 2399], "must be a string, or ints"),
        ([-10, 2410], "must not be negative; one is -10"),
        ([2**32, 2400], "must be a string, or ints"),
        ([1000, 1399], "do not sum to 40 x 60"),
        (None, "must be a string, or ints"),
        (7, "must be a string, or ints"),
    ],
)
def test_runs_must_cover_the_image(counts: object, message: str) -> None:
    assert message in (mask_complaint(rle(counts), *SIZE) or "")


def square(*corners: float) -> list[float]:
    left, top, right, bottom = corners
    return [left, top, right, top, right, bottom, left, bottom]


@pytest.mark.parametrize(
    "polygon",
    [
        square(10, 10, 1e18, 20),
        square(-1e300, 10, 20, 20),
        square(10, 10, 10**400, 20),
        square(10, 10, float("inf"), 20),
        square(10, 10, 700, 20),
        square(10, -601, 20, 20),
    ],
)
def test_polygons_must_be_near_the_image(polygon: list[float]) -> None:
    complaint = mask_complaint([polygon], *SIZE)
    assert complaint is not None
    assert complaint.startswith("segmentation: ") and len(complaint) < 200


def test_polygons_across_the_border_are_cut_at_it() -> None:
    polygon = square(-600, 10, 5, 500)
    assert mask_complaint([polygon], *SIZE) is None
    mask = np.zeros(SIZE)
    mask[10:, :5] = 1
    np.testing.assert_array_equal(mask_utils.decode(to_rle([polygon], *SIZE)), mask)


def test_an_endless_outline_is_refused() -> None:
    zigzag = [-600.0, 0.0, 600.0, 0.0] * 10_000
    assert "outline may be 10000000 pixels long" in (mask_complaint([zigzag], *SIZE) or "")


def test_the_size_of_a_mask_is_two_ints() -> None:
    legal = encode_mask(np.ones(SIZE, bool))
    assert mask_complaint(legal, *SIZE) is None
    for size in [40.0, 60.0], [60, 40], None, [40]:
        assert "has the size" in (mask_complaint({**legal, "size": size}, *SIZE) or "")
