"""Against timm's `Mixup(mode="batch")`, written out in NumPy."""

import functools

import jax
import numpy as np
import optax
import pytest
from flax import nnx
from ml_collections import ConfigDict

from dwconv_jax.tasks.classification.mixing import mix, own_shares
from dwconv_jax.tasks.classification.task import Classification
from dwconv_jax.training.mesh import batch_sharding, make_mesh

HEIGHT, WIDTH = 20, 30


def config(**fields):
    defaults = dict(mixup_alpha=0.8, cutmix_alpha=1.0, cutmix_probability=0.5, group_size=None)
    return ConfigDict({**defaults, **fields})


@functools.cache
def draws():
    """4,000 draws of either kind by the recipe's config: masks, and their means."""
    keys = jax.random.split(jax.random.key(1), 4000)
    draw = jax.jit(jax.vmap(lambda key: own_shares(key, HEIGHT, WIDTH, config())))
    return tuple(map(np.asarray, draw(keys)))


def is_cut(own):
    return np.isin(own, (0, 1)).all((-2, -1))


def box_by_hand(rng):
    """timm's box: its centre is anywhere, and what the border cuts off is lost."""
    ratio = np.sqrt(1 - rng.beta(1.0, 1.0))
    sides = []
    for length in HEIGHT, WIDTH:
        cut, centre = int(length * ratio), rng.integers(0, length)
        sides.append(np.clip([centre - cut // 2, centre + cut // 2], 0, length))
    return sides


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(16, HEIGHT, WIDTH, 3)).astype(np.float32)
    targets = np.asarray(optax.smooth_labels(np.eye(5)[rng.integers(0, 5, 16)], 0.1), np.float32)
    return images, targets


def test_mixup_and_cutmix_are_equally_frequent():
    assert abs(is_cut(draws()[0]).mean() - 0.5) < 0.03


def test_mixup_shares_are_beta_and_the_same_everywhere():
    own, means = (x[~is_cut(draws()[0])] for x in draws())
    np.testing.assert_array_equal(own, np.broadcast_to(means[:, None, None], own.shape))
    levels = np.linspace(0.1, 0.9, 9)
    expected = np.random.default_rng(0).beta(0.8, 0.8, 100_000)
    np.testing.assert_allclose(np.quantile(means, levels), np.quantile(expected, levels), atol=0.05)


def test_cutmix_boxes_are_distributed_as_timm_draws_them(rng):
    own, means = (x[is_cut(draws()[0])] for x in draws())
    np.testing.assert_allclose(means, 1 - (own == 0).mean((1, 2)), atol=1e-6)
    rows, columns = (own == 0).any(2), (own == 0).any(1)
    np.testing.assert_array_equal(own == 0, rows[:, :, None] & columns[:, None])  # boxes
    boxes = np.array([box_by_hand(rng) for _ in range(20_000)])
    heights, widths = (boxes[..., 1] - boxes[..., 0]).T
    levels = np.linspace(0.1, 0.9, 9)
    for actual, expected in (
        (rows.sum(1) / HEIGHT, heights / HEIGHT),
        (columns.sum(1) / WIDTH, widths / WIDTH),
        (1 - means, heights * widths / (HEIGHT * WIDTH)),
    ):
        np.testing.assert_allclose(
            np.quantile(actual, levels), np.quantile(expected, levels), atol=0.08
        )
    covered = np.zeros((HEIGHT, WIDTH))
    for (top, bottom), (left, right) in boxes:
        covered[top:bottom, left:right] += 1 / len(boxes)
    np.testing.assert_allclose((own == 0).mean(0), covered, atol=0.05)


@pytest.mark.parametrize("group_size", [None, 4])
def test_images_and_targets_are_those_of_numpy(batch, group_size):
    images, targets = batch
    fields = config(group_size=group_size)
    mixed_images, mixed_targets = jax.jit(lambda *xy: mix(*xy, nnx.Rngs(3), fields))(*batch)
    size = group_size or 16
    keys = jax.random.split(nnx.Rngs(3).mix(), 16 // size)
    draw = jax.jit(lambda key: own_shares(key, HEIGHT, WIDTH, fields))
    shares = set()
    for group, key in enumerate(keys):
        own = np.asarray(draw(key)[0], np.float64)
        cut = is_cut(own)
        share = 1 - (own == 0).sum() / (HEIGHT * WIDTH) if cut else own[0, 0]
        shares.add(share)
        for place in range(size):
            i, partner = group * size + place, group * size + size - 1 - place
            if cut:
                expected = np.where(own[..., None] == 0, images[partner], images[i])
            else:
                expected = share * images[i] + (1 - share) * images[partner]
            np.testing.assert_allclose(mixed_images[i], expected, atol=1e-6)
            expected = share * targets[i] + (1 - share) * targets[partner]
            np.testing.assert_allclose(mixed_targets[i], expected, atol=1e-6)
    assert len(shares) == 16 // size


def test_cutmix_can_be_had_alone():
    fields = config(mixup_alpha=0.0)
    keys = jax.random.split(jax.random.key(2), 12)
    own, _ = jax.jit(jax.vmap(lambda key: own_shares(key, HEIGHT, WIDTH, fields)))(keys)
    assert is_cut(np.asarray(own)).all()


def test_without_alphas_nothing_is_drawn(batch):
    rngs = nnx.Rngs(3)
    images, targets = mix(*batch, rngs, config(mixup_alpha=0.0, cutmix_alpha=0.0))
    assert images is batch[0] and targets is batch[1]
    assert rngs.default.count[...] == 0


def test_the_mixture_does_not_depend_on_the_number_of_devices(batch):
    fields = config()  # one group over all devices
    mixing = jax.jit(lambda images, targets: mix(images, targets, nnx.Rngs(7), fields))
    expected = mixing(*batch)
    mesh = make_mesh({"data": 4, "fsdp": 2})
    with jax.set_mesh(mesh):
        actual = mixing(*jax.device_put(batch, batch_sharding(mesh)))
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_the_loss_is_the_cross_entropy_of_the_mixture(batch):
    class Pixels(nnx.Module):
        def __call__(self, images, train, rngs):
            return 3 * images[:, 4, :5, 0]

    task = object.__new__(Classification)
    task.num_classes = 5
    task._config = ConfigDict(dict(label_smoothing=0.1, mix=config()))
    labels = np.arange(16) % 5
    loss, metrics = task.loss(Pixels(), {"image": batch[0], "label": labels}, nnx.Rngs(3))

    smoothed = 0.9 * np.eye(5, dtype=np.float32)[labels] + 0.02
    images, targets = mix(batch[0], smoothed, nnx.Rngs(3), config())
    logits = 3 * np.asarray(images, np.float64)[:, 4, :5, 0]
    log_probabilities = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    np.testing.assert_allclose(loss, -(targets * log_probabilities).sum(1).mean(), rtol=1e-5)
    right = logits.argmax(1) == np.asarray(targets).argmax(1)
    np.testing.assert_allclose(metrics["accuracy"], right.mean())
