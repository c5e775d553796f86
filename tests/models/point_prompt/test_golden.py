"""P2P against the authors' code: every part, whole logits and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dwconv_jax.convert import load_torch
from dwconv_jax.models.point_prompt import create_point_classifier
from dwconv_jax.models.point_prompt.projection import pixels_of, scatter
from dwconv_jax.models.point_prompt.sampling import farthest_points, nearest_neighbors
from dwconv_jax.models.point_prompt.views import rotation, turn
from dwconv_jax.tasks.point_cloud.losses import smoothed_cross_entropy
from tests import golden
from tests.models.families.golden import check_gradients, check_round_trip, in_torch_layout
from tests.numerics import assert_close

TOLERANCE = 1e-4


def abstract_model(config):
    return nnx.eval_shape(
        lambda: create_point_classifier(
            "convnext_tiny",
            num_classes=config["classes"],
            prompt=dict(
                image_size=config["img_size"],
                object_size=config["obj_size"],
                neighbors=config["local_size"],
                point_features=config["trans_dim"],
                features=config["graph_dim"],
            ),
            mean=config["imagenet_default_mean"],
            std=config["imagenet_default_std"],
            embed_dim=config["dims"],
            depths=config["depths"],
            rngs=nnx.Rngs(0),
        )
    )


@pytest.fixture(scope="module")
def expected():
    return golden.load("zoo_point_prompt")


@pytest.fixture(scope="module")
def model(expected):
    return load_torch(abstract_model(expected.config), expected.under("param"))


@pytest.fixture(scope="module")
def actual(model, expected):
    """Everything that the file holds, in one program."""
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    labels = expected["labels"]

    @jax.jit
    def compute(params, points, angles, seen):
        evaluated = nnx.merge(graph, params, rest)
        encoded = evaluated.prompt.encode(points)
        size = evaluated.prompt.config.object_size
        pixels = pixels_of(seen, size)
        picture = evaluated.prompt.paint(encoded, seen)
        mean, std = (jnp.array(x).reshape(1, 1, 1, 3) for x in evaluated.normalization)

        def training_loss(params):
            model = nnx.merge(graph, params, rest, copy=True)
            logits = model(points, seen, train=True)
            loss = smoothed_cross_entropy(logits, labels, 0.2).mean()
            return loss, (logits, nnx.state(model, nnx.BatchStat))

        (loss, (logits, stats)), grads = jax.value_and_grad(training_loss, has_aux=True)(params)
        return {
            "seen": turn(points, rotation(*angles.T)),
            "farthest": jnp.take_along_axis(points, farthest_points(points, 20)[..., None], axis=1),
            "neighbors": nearest_neighbors(points, 8),
            "pixels": pixels[..., 0] * size + pixels[..., 1],
            "eval": {
                "encoded": encoded,
                "projected": scatter(encoded, pixels, size),
                "picture": (picture - mean) / std,
                "logits": evaluated.classify(picture, train=False),
            },
            "train": {"loss": loss, "logits": logits},
            "stats": stats,
            "grad": grads,
        }

    inputs = expected.under("input")
    return compute(params, *(jnp.asarray(inputs[name]) for name in ("points", "angles", "seen")))


def test_weights_round_trip(model, expected):
    check_round_trip(model, expected.under("param"))


def test_views_and_sampling(actual, expected):
    assert_close(actual["seen"], expected["input/seen"], 1e-5)
    golden.assert_golden(actual, {"farthest": expected["farthest"]}, 1e-6)
    # The authors' order is not that of distances.
    neighbors = np.sort(actual["neighbors"])
    np.testing.assert_array_equal(golden.sample(neighbors), expected["neighbors"])
    np.testing.assert_array_equal(golden.sample(np.asarray(actual["pixels"])), expected["pixels"])


def test_evaluation(actual, expected):
    golden.assert_golden(actual["eval"], expected.under("eval"), TOLERANCE)


def test_training(model, actual, expected):
    golden.assert_golden(actual["train"], expected.under("train"), TOLERANCE)
    stats = in_torch_layout(model, actual["stats"])
    golden.assert_golden(stats, expected.under("stats"), TOLERANCE)
    check_gradients(in_torch_layout(model, actual["grad"]), expected.under("grad"))
