"""The grids of configs/study_*.py: cells that can be built, and differ in what they say."""

import importlib.util
from pathlib import Path

import jax
import pytest
from flax import nnx

import dwconv_jax
from dwconv_jax.errors import UserError
from dwconv_jax.study import study_config
from dwconv_jax.study.grid import cell_config, check_study
from tests.training import tiny

CONFIGS = Path(__file__).parents[2] / "configs"


def load(name):
    spec = importlib.util.spec_from_file_location(name, CONFIGS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


def abstract_model(config):
    options = config.model.to_dict()
    name = options.pop("name")
    return nnx.eval_shape(
        lambda: dwconv_jax.create_model(name, num_classes=10, rngs=nnx.Rngs(0), **options)
    )


@pytest.mark.parametrize(
    "name",
    [
        "study_digits",
        pytest.param("study_fashion_mnist", marks=pytest.mark.slow),
        pytest.param("study_imagenet", marks=pytest.mark.slow),
    ],
)
def test_every_cell_is_a_model_of_its_own(name):
    study = load(name)
    names = [cell for cell, _ in study.cells]
    models = {
        cell: abstract_model(cell_config(study, i, study.seeds[0])) for i, cell in enumerate(names)
    }
    first = {cell: model.stages[0].blocks[0].mixer for cell, model in models.items()}
    assert {mixer.dynamic for mixer in first.values()} == {"none", "pooled", "centre", "attention"}
    assert all(cell in names for _, compared in study.questions for cell in compared)

    def identity(cell):
        params = nnx.to_pure_dict(nnx.state(models[cell], nnx.Param))
        return first[cell].connectivity, jax.tree.map(lambda p: p.shape, params)

    assert all(identity(a) != identity(b) for a in names for b in names if a < b)
    second = models["swin_attention"].stages[0].blocks[1].mixer
    assert any(second.connectivity.shift)
    for cell, model in models.items():
        assert (model.stages[0].blocks[0].gate is not None) == cell.endswith("_se")


def test_the_grid_of_the_paper_is_among_that_of_the_digits():
    digits, imagenet = load("study_digits"), load("study_imagenet")
    kernels = {f"dw_kernel_{size}" for size in (3, 5, 7, 9, 11, 13)}
    names = [{cell for cell, _ in study.cells} - kernels for study in (digits, imagenet)]
    attention = {f"dw_{kind}_attention" for kind in ("neighborhood", "halo", "grid")}
    assert names[0] == names[1] | attention and len(imagenet.cells) == 18
    assert cell_config(imagenet, 0, 0).model.dtype == "bfloat16"


def test_every_mixer_of_the_family_is_another_layer():
    study = load("study_family")
    models = [abstract_model(cell_config(study, i, 0)) for i in range(len(study.cells))]
    mixers = [model.stages[0].blocks[0].mixer for model in models]
    layers = {(m.connectivity, m.dynamic, str(nnx.graphdef(m.source))) for m in mixers}
    assert len(layers) == len(mixers) == 14


def test_a_cell_changes_the_model_and_the_seed_alone():
    study = study_config(
        tiny.get_config(), {"wide": dict(embed_dim=32, mixer=dict(groups=(2, 4)))}, {}, seeds=(7,)
    )
    config, base = cell_config(study, 0, 7), tiny.get_config()
    assert config.model.embed_dim == 32 and config.seed == 7
    assert config.model.mixer.to_dict() == {"groups": (2, 4)}
    config.seed, config.model = base.seed, base.model
    assert config == base
    assert study.base.model.embed_dim == base.model.embed_dim


@pytest.mark.parametrize(
    ("cells", "questions", "seeds", "message"),
    [
        ({}, {}, (0,), "needs cells and seeds, got 0 and 1"),
        ({"a": {}}, {}, (), "needs cells and seeds, got 1 and 0"),
        ({"a": {}}, {"Which?": ["a", "b"]}, (0,), "'Which\\?' compares unknown cells b; known: a"),
    ],
)
def test_a_study_that_cannot_be_is_refused(cells, questions, seeds, message):
    with pytest.raises(ValueError, match=message):
        study_config(tiny.get_config(), cells, questions, seeds=seeds)


def test_the_config_of_a_run_is_no_study():
    with pytest.raises(UserError, match="--config is the config of one run, not of a study"):
        check_study(tiny.get_config())
    check_study(study_config(tiny.get_config(), {"a": {}}, {}, seeds=[0]))
