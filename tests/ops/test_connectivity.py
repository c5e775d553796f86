import numpy as np
import pytest

from dwconv_jax.ops import Global, Sliding, Window


def test_sliding_sees_its_neighbourhood_in_raster_order():
    seen = Sliding(3).neighbours(3, 4)
    assert seen.shape == (12, 1, 9)
    assert seen[5, 0].tolist() == [0, 1, 2, 4, 5, 6, 8, 9, 10]
    assert seen[0, 0].tolist() == [-1, -1, -1, -1, 0, 1, -1, 4, 5]


def test_sliding_kernels_may_be_oblong_and_dilated():
    assert Sliding((1, 3), dilation=(1, 2)).neighbours(1, 5)[:, 0].tolist() == [
        [-1, 0, 2],
        [-1, 1, 3],
        [0, 2, 4],
        [1, 3, -1],
        [2, 4, -1],
    ]


def test_windows_pad_right_and_bottom():
    window = Window(2)
    assert window.outputs(3, 3).tolist() == [
        [0, 1, 3, 4],
        [2, -1, 5, -1],
        [6, 7, -1, -1],
        [8, -1, -1, -1],
    ]


def test_shifted_windows_roll_the_padded_map():
    outputs = Window(2, shift=1).outputs(2, 4)
    assert outputs.tolist() == [[5, 6, 1, 2], [7, 4, 3, 0]]


@pytest.mark.parametrize("connectivity", [Sliding(5), Window(4, shift=(1, 3)), Global()])
def test_every_position_is_an_output_once(connectivity):
    outputs = connectivity.outputs(5, 7)
    assert outputs.shape == connectivity.block_shape(5, 7)[:2]
    assert sorted(outputs[outputs >= 0].tolist()) == list(range(35))
    assert connectivity.neighbours(5, 7).shape == connectivity.block_shape(5, 7)


def test_everybody_sees_everything_globally():
    assert np.array_equal(Global().neighbours(2, 2), np.tile(np.arange(4), (1, 4, 1)))


def test_connectivities_are_values():
    assert Sliding(7) == Sliding((7, 7), (1, 1))
    assert hash(Sliding(7)) == hash(Sliding((7, 7)))
    assert Window(7) != Window(7, shift=3)
    with pytest.raises(AttributeError):
        Sliding(7).kernel_size = (3, 3)


def test_an_even_kernel_is_legal_only_where_it_has_a_centre():
    assert Sliding(4, dilation=2).padding == (3, 3)
    with pytest.raises(ValueError, match=r"kernel_size=\(4, 4\) with dilation=\(1, 1\)"):
        Sliding(4)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Sliding(0), "kernel_size must be an int >= 1"),
        (lambda: Sliding((3, 3, 3)), "kernel_size must be an int >= 1"),
        (lambda: Sliding(3, dilation=0), "dilation must be an int >= 1"),
        (lambda: Window(7, shift=7), r"shift=\(7, 7\) must be smaller than window_size"),
        (lambda: Window(7, shift=-1), "shift must be an int >= 0"),
        (lambda: Window(7.0), "window_size must be an int >= 1"),
    ],
)
def test_wrong_sizes_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()
