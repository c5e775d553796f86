"""Every variant of every config is one that can be trained."""

import importlib
import pathlib

import pytest

from dwconv_jax.models import VARIANTS
from dwconv_jax.models.families import dwnet, swin
from dwconv_jax.training.config import validate

# A study is not one run; tests/study has its configs.
NAMES = sorted(
    path.stem for path in pathlib.Path("configs").glob("*.py") if not path.stem.startswith("study_")
)


def variants_of(name):
    module = importlib.import_module(f"configs.{name}")
    return VARIANTS if name == "imagenet" else getattr(module, "VARIANTS", [None])


@pytest.mark.parametrize("name", NAMES)
def test_every_variant_is_valid(name):
    module = importlib.import_module(f"configs.{name}")
    for variant in variants_of(name):
        validate(module.get_config(variant) if variant else module.get_config())


@pytest.mark.parametrize(
    "variant",
    [name for name in dwnet.VARIANTS | swin.VARIANTS if not name.endswith(("large", "384"))],
)
def test_imagenet_is_the_recipe_of_the_paper(variant):
    config = importlib.import_module("configs.imagenet").get_config(variant)
    base = variant.endswith("base")
    assert (config.num_epochs, config.batch_size) == (300, 1024)
    optimizer = config.optimizer
    scale = config.batch_size / optimizer.reference_batch_size
    assert scale * optimizer.learning_rate == pytest.approx(1e-3)
    assert scale * optimizer.min_learning_rate == pytest.approx(1e-5)
    assert scale * optimizer.warmup_learning_rate == pytest.approx(1e-6)
    assert (optimizer.schedule, optimizer.decayed) == ("cosine", "kernels")
    assert (optimizer.warmup_epochs, optimizer.weight_decay, optimizer.clip_norm) == (20, 0.05, 5)
    assert config.label_smoothing == 0.1
    assert (config.mix.mixup_alpha, config.mix.cutmix_alpha) == (0.8, 1.0)
    assert config.mix.cutmix_probability == 0.5
    assert config.mix.group_size == (64 if base else 128)
    dataset = config.dataset
    assert (dataset.rand_augment_magnitude, dataset.rand_augment_std) == (9, 0.5)
    assert (dataset.color_jitter, dataset.random_erasing) == (0.4, 0.25)
    assert (dataset.image_size, dataset.eval_resize) == (224, 256)
    if variant != "swin_small":  # Swin's own
        assert config.model.drop_path_rate == (0.5 if base else 0.2)
    assert config.model.get("batch_norm_group_size") == (
        None if "swin" in variant else 64 if base else 128
    )
