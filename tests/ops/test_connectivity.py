import numpy as np
import pytest

from dwconv_jax.ops import Global, Grid, Sliding, Window


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


def test_an_even_kernel_has_one_tap_more_to_the_left():
    assert Sliding((4,)).neighbours(4)[:, 0].tolist() == [
        [-1, -1, 0, 1],
        [-1, 0, 1, 2],
        [0, 1, 2, 3],
        [1, 2, 3, -1],
    ]


def test_a_causal_kernel_ends_at_its_position():
    assert Sliding((3,), causal=True).neighbours(3)[:, 0].tolist() == [
        [-1, -1, 0],
        [-1, 0, 1],
        [0, 1, 2],
    ]


def test_a_clamped_kernel_stays_inside_the_map():
    seen = Sliding((3,), border="clamp").neighbours(5)[:, 0]
    assert seen.tolist() == [[0, 1, 2], [0, 1, 2], [1, 2, 3], [2, 3, 4], [2, 3, 4]]


def test_a_cyclic_map_has_no_end():
    seen = Sliding((3,), border="wrap").neighbours(4)[:, 0]
    assert seen.tolist() == [[3, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 0]]


def test_positions_of_a_stride_share_the_kernel_of_their_middle():
    halo = Sliding((4,), stride=2)  # blocks of 2 with a halo of 1
    assert halo.outputs(5).tolist() == [[0, 1], [2, 3], [4, -1]]
    assert halo.neighbours(5)[:, 0].tolist() == [[-1, 0, 1, 2], [1, 2, 3, 4], [3, 4, -1, -1]]
    clamped = Sliding((4,), stride=2, border="clamp")
    assert clamped.neighbours(5)[:, 1].tolist() == [[0, 1, 2, 3], [1, 2, 3, 4], [1, 2, 3, 4]]


def test_positions_of_a_causal_stride_do_not_see_those_behind_them():
    seen = Sliding((3,), stride=2, causal=True).neighbours(4)
    assert seen.tolist() == [[[-1, 0, -1], [-1, 0, 1]], [[1, 2, -1], [1, 2, 3]]]


def test_a_dilated_stride_stays_in_its_group():
    strided = Sliding((3,), dilation=2, stride=2, border="clamp")
    assert strided.outputs(7).tolist() == [[0, 2], [1, 3], [4, 6], [5, -1]]
    assert strided.neighbours(7)[:, 0].tolist() == [[0, 2, 4], [1, 3, 5], [2, 4, 6], [1, 3, 5]]


def test_relative_positions_of_a_clamped_kernel_are_those_of_key_and_query():
    clamped = Sliding((3,), border="clamp")
    assert clamped.num_relative_positions(5) == 5
    assert clamped.relative_positions(5)[:, 0].tolist() == [
        [2, 3, 4],
        [1, 2, 3],
        [1, 2, 3],
        [1, 2, 3],
        [0, 1, 2],
    ]
    assert Sliding((3,)).relative_positions(5).tolist() == [[[0, 1, 2]]]


def test_grids_have_positions_far_apart():
    assert Grid((2,)).outputs(6).tolist() == [[0, 3], [1, 4], [2, 5]]
    assert Grid((2,)).outputs(5).tolist() == [[0, 3], [1, 4], [2, -1]]


def test_stripes_are_windows_over_a_whole_axis():
    assert Window((None, 1)).outputs(2, 3).tolist() == [[0, 3], [1, 4], [2, 5]]
    assert not Window((None, 7)).fixed_blocks and Window(7).fixed_blocks


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


@pytest.mark.parametrize(
    "connectivity",
    [
        Sliding(5),
        Sliding((2, 5), (2, 1), stride=(2, 3), border=("wrap", "clamp")),
        Sliding(4, stride=3, causal=(True, False)),
        Window(4, shift=(1, 3)),
        Window((None, 2)),
        Grid((2, 3)),
        Global(),
    ],
    ids=str,
)
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
    assert Sliding(7, border="clamp") == Sliding(7, border=("clamp", "clamp"))
    assert Window(7) != Window(7, shift=3)
    with pytest.raises(AttributeError):
        Sliding(7).kernel_size = (3, 3)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Sliding(0), "kernel_size must be an int >= 1"),
        (lambda: Sliding((3,) * 4), "kernel_size must have 1 to 3 entries"),
        (lambda: Sliding((3, 3), (1,)), r"got kernel_size=\(3, 3\), dilation=\(1,\)"),
        (lambda: Sliding((3, None)), r"kernel_size must be an int >= 1.*got \(3, None\)"),
        (lambda: Sliding(3, border="same"), "border must be 'zero' or 'clamp' or 'wrap'"),
        (lambda: Sliding(3, causal=1), "causal must be True or False"),
        (lambda: Sliding(3, stride=4), r"stride=\(4, 4\) must be at most kernel_size=\(3, 3\)"),
        (lambda: Sliding(3, border="wrap", causal=True), "does not go with border='wrap'"),
        (lambda: Sliding(3, 2, border="clamp").check(5, 6), r"got 3 \* 2 on an axis of 5"),
        (lambda: Sliding(3, border="wrap").neighbours(2, 4), "border='wrap', got 3"),
        (lambda: Sliding(3).check(5), r"is for maps of 2 axes, got a map of 1: \(5,\)"),
        (lambda: Window((None, 7), shift=(1, 0)), "must be smaller than window_size"),
        (lambda: Grid(0), "grid_size must be an int >= 1"),
        (lambda: Sliding(3, dilation=0), "dilation must be an int >= 1"),
        (lambda: Window(7, shift=7), r"shift=\(7, 7\) must be smaller than window_size"),
        (lambda: Window(7, shift=-1), "shift must be an int >= 0"),
        (lambda: Window(7.0), "window_size must be an int >= 1"),
    ],
)
def test_wrong_sizes_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()
