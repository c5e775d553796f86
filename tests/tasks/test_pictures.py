"""No two pictures share a file of their predictions."""

import pytest

from dwconv_jax.tasks.pictures import output_names


@pytest.mark.parametrize(
    ("names", "outputs"),
    [
        (["a.jpg", "b.png", "sub/a.png"], ["a", "b", "sub/a"]),
        (["a.jpg", "a.png", "b.png"], ["a.jpg", "a.png", "b"]),
        (["a.jpg", "a.png", "a.jpg.png"], ["a.jpg", "a.png", "a.jpg.png"]),
        (["a.png", "a_overlay.png"], ["a", "a_overlay.png"]),
    ],
)
def test_outputs_do_not_collide(names, outputs):
    assert output_names(names) == outputs
