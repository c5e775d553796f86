"""Sizes of the prompt, what is trained, and clouds that are unlike any shape."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dwconv_jax.errors import UserError
from dwconv_jax.models.point_prompt import PointPrompt, PromptConfig, create_point_classifier
from dwconv_jax.models.point_prompt.projection import pixels_of, scatter
from dwconv_jax.models.point_prompt.sampling import farthest_points, nearest_neighbors
from dwconv_jax.models.point_prompt.views import evaluation_rotations, random_views, scale_and_shift

SMALL = dict(image_size=16, object_size=12, neighbors=4, point_features=2, features=4)


def test_the_prompt_has_the_parameters_of_the_reference():
    model = nnx.eval_shape(lambda: PointPrompt(PromptConfig(), rngs=nnx.Rngs(0)))
    arrays = jax.tree.leaves(nnx.state(model, nnx.Param))
    assert sum(math.prod(array.shape) for array in arrays) == 83_683


@pytest.fixture(scope="module")
def logits():
    """Logits and gradients of clouds by a small model, compiled once."""
    model = create_point_classifier(
        "dwnet_tiny", embed_dim=8, depths=(1, 1), num_classes=3, prompt=SMALL, rngs=nnx.Rngs(0)
    )
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    @jax.jit
    def compute(points):
        def loss(params):
            logits = nnx.merge(graph, params, rest, copy=True)(points, points)
            return jnp.square(logits).sum(), logits

        return jax.grad(loss, has_aux=True)(params)

    return compute


@pytest.mark.parametrize("kind", ["one point", "two points", "a line", "a plane"])
def test_clouds_without_extent_have_finite_gradients(logits, kind, rng):
    points = np.zeros((2, 8, 3), np.float32)
    if kind == "two points":
        points[:, ::2] = 1
    elif kind == "a line":
        points[..., 1] = rng.normal(size=(2, 8))
    elif kind == "a plane":
        points[..., :2] = rng.normal(size=(2, 8, 2))
    gradients, values = logits(jnp.asarray(points))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((gradients, values)))


def test_fewer_points_than_neighbors(rng):
    points = jnp.asarray(rng.normal(size=(1, 3, 3)), jnp.float32)
    model = create_point_classifier(
        "dwnet_tiny", embed_dim=8, depths=(1,), num_classes=3, prompt=SMALL, rngs=nnx.Rngs(0)
    )
    assert model.prompt.encode(points).shape == (1, 3, 4)


def test_duplicates_do_not_displace_other_points():
    points = jnp.asarray([[[0, 0, 0], [0, 0, 0], [1, 0, 0], [3, 0, 0], [0, 0, 0]]], jnp.float32)
    assert farthest_points(points, 4)[0, :3].tolist() == [0, 3, 2]
    assert set(nearest_neighbors(points, 3)[0, 1].tolist()) == {0, 1, 4}


def test_tiles_of_neighbors_fit_any_number_of_points(rng):
    points = jnp.asarray(rng.normal(size=(2, 300, 3)), jnp.float32)
    distances = np.square(np.asarray(points)[:, :, None] - np.asarray(points)[:, None]).sum(-1)
    wanted = np.sort(np.argsort(distances)[..., :4])
    np.testing.assert_array_equal(np.sort(nearest_neighbors(points, 4)), wanted)


def test_projection_spans_the_picture_and_keeps_proportions():
    points = jnp.asarray([[[0, 0, 5], [13, 0, 0], [13, 6, 0]]], jnp.float32)
    pixels = pixels_of(points, 16)
    assert pixels[0, :, 0].tolist() == [1, 14, 14]  # the longer side, from border to border
    assert pixels[0, 2, 1] - pixels[0, 0, 1] == 6
    maps = scatter(jnp.ones((1, 3, 1)), pixels, 16)
    assert maps.sum() == 27 and maps[0, 1, 4, 0] == 1


def test_views():
    views = evaluation_rotations(40)
    assert views.shape == (40, 3, 3) and len(np.unique(views, axis=0)) == 40
    assert evaluation_rotations(8).shape == (8, 3, 3)
    rotations = random_views(jax.random.key(0), 5)
    identity = jnp.broadcast_to(jnp.eye(3), (5, 3, 3))
    np.testing.assert_allclose(rotations @ rotations.swapaxes(1, 2), identity, atol=1e-6)
    moved = scale_and_shift(jax.random.key(0), jnp.ones((5, 1, 3)))
    assert 2 / 3 - 0.2 <= moved.min() < 1 < moved.max() <= 1.5 + 0.2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(neighbors=0), "prompt.neighbors must be an int >= 1, got 0"),
        (dict(features=6), "prompt.features=6 must be a multiple of 4"),
        (dict(object_size=300), "prompt.object_size=300 must be even and at most"),
        (dict(object_size=31), "prompt.object_size=31 must be even"),
        (dict(head="cubic"), "prompt.head must be one of 'linear', 'mlp', got 'cubic'"),
    ],
)
def test_illegal_fields(fields, message):
    with pytest.raises(UserError, match=message):
        PromptConfig(**fields)


def test_names_are_checked():
    with pytest.raises(UserError, match="unknown field of prompt 'neighbours'; did you mean"):
        create_point_classifier(
            "dwnet_tiny", num_classes=3, prompt=dict(neighbours=3), rngs=nnx.Rngs(0)
        )
    with pytest.raises(UserError, match="'upernet_dwnet_tiny' is no classifier"):
        create_point_classifier("upernet_dwnet_tiny", num_classes=3, rngs=nnx.Rngs(0))
