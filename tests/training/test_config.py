"""Mistakes in a config end in one sentence, before anything compiles."""

import copy
import functools
import json
import math

import pytest
from absl import flags
from ml_collections import ConfigDict, config_flags

from configs import coco
from dwconv_jax.cli import config as _config  # noqa: F401 (registers how numbers are parsed)
from dwconv_jax.errors import UserError
from dwconv_jax.training import base_config, loop
from dwconv_jax.training.config import differences, validate


def broken(config, **changes):
    fields = config.to_dict()
    for path, value in changes.items():
        *parents, name = path.split("__")
        functools.reduce(dict.__getitem__, parents, fields)[name] = value
    return ConfigDict(fields)


@pytest.mark.parametrize(
    ("name", "value"), [("mlp_ratio", 0), ("mlp_ratio", "a"), ("batch_norm_group_size", 0)]
)
def test_overrides_of_the_model_are_checked(name, value):
    config = base_config()
    with config.model.unlocked():
        config.model[name] = value
    with pytest.raises(UserError, match=f"config.model.{name}={value!r} must be"):
        validate(config)


def test_an_empty_workdir_is_refused_and_a_home_directory_expanded(config, monkeypatch, tmp_path):
    with pytest.raises(UserError, match="--workdir is empty"):
        loop.prepare(config, "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert str(loop.prepare(config, "~/run").workdir) == f"{tmp_path}/run"
    config.init_from = "~/gone.pth"
    with pytest.raises(FileNotFoundError, match=r"config.init_from='~/gone.pth' does not exist"):
        loop.prepare(config, "~/run")


def test_the_default_is_valid():
    validate(base_config())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(batchsize=3), "unknown field config.batchsize; did you mean 'batch_size'?"),
        (dict(optimizer__lr=3), "unknown field config.optimizer.lr; .*known: b1, b2, clip_norm"),
        (dict(optimizer=3), "config.optimizer must hold fields, got 3"),
        (dict(num_epochs=0), "config.num_epochs=0 must be an int >= 1"),
        (dict(eval_every_steps=-1), "config.eval_every_steps=-1 must be an int >= 1"),
        (dict(accumulation_steps=7), "config.accumulation_steps=7 must divide batch_size=464"),
        (dict(max_skipped_steps=-1), "config.max_skipped_steps=-1 must be an int >= 0"),
        (dict(ema_decay=1.0), "config.ema_decay=1.0 must be None or in .0, 1"),
        (dict(class_weights="balance"), "class_weights='balance' must be None or 'balanced' or a"),
        (dict(class_weights=(1.0, 0.0)), "class_weights=.1.0, 0.0. must be None or 'balanced' or"),
        (dict(label_smoothing=1.0), "config.label_smoothing=1.0 must be in"),
        (dict(mix__mixup_alpha=-0.8), "config.mix.mixup_alpha=-0.8 must be a number >= 0"),
        (dict(mix__cutmix_probability=2.0), "config.mix.cutmix_probability=2.0 must be in"),
        (dict(mix__group_size=100), "mix.group_size=100 must divide the 464 images of batch_size"),
        (
            dict(mix__group_size=464, accumulation_steps=2),
            "mix.group_size=464 must divide the 232 images of a micro-batch",
        ),
        (dict(optimizer__warmup_epochs=4.0), "warmup_epochs=4.0 must be in .0, num_epochs=4"),
        (dict(task="clasification"), "config.task must be one of 'classification'"),
        (dict(mesh=dict(data=3, fsdp=1)), "does not multiply to the 8 devices"),
        (dict(mesh__date=1), "unknown field config.mesh.date; did you mean 'data'"),
        (dict(batch_size=100), "config.batch_size=100 must be a multiple of the 8 devices"),
        (dict(batch_size=1600), "batch_size=1600 exceeds the 1437 examples"),
        (dict(model__name="dwnet"), "unknown model 'dwnet'; did you mean"),
        (dict(model__embed_dims=8), "unknown override 'embed_dims'; did you mean 'embed_dim'"),
        (dict(dataset__name="digit"), "dataset.name='digit' is unknown.*'digits'"),
        (dict(dataset__augment="crop"), "dataset.augment='crop' is unknown"),
        (dict(model__dtype="float12"), "config.model.dtype='float12'"),
        (dict(model__drop_path_rate=2), r"config.model.drop_path_rate=2 must be in \[0, 1\)"),
        (dict(model__embed_dim=0), "config.model.embed_dim=0 must be a positive int"),
        (dict(model__embed_dim="8"), "config.model.embed_dim='8' must be a positive int"),
        (dict(model__depths=()), r"config.model.depths=\(\) must be a tuple of positive ints"),
        (dict(model__depths=(1, -1)), r"config.model.depths=\(1, -1\) must be a tuple of"),
        (dict(model__depths=(1.5, 1)), r"config.model.depths=\(1.5, 1\) must be a tuple of"),
        (dict(model__patch_size=0), "config.model.patch_size=0 must be a positive int"),
        (dict(seed=2**70), r"config.seed=\d+ must be an int in \[0, 2"),
        (dict(seed=-1), r"config.seed=-1 must be an int in"),
        (dict(eval_every_epochs=0), "config.eval_every_epochs=0 must be None or a positive"),
        (dict(optimizer__clip_norm=-1), "config.optimizer.clip_norm=-1 must be a positive"),
        (dict(optimizer__b1=2), r"config.optimizer.b1=2 must be in \[0, 1\)"),
        (dict(optimizer__decay_epochs=("5", "a")), r"decay_epochs=\('5', 'a'\) must be positive"),
        (dict(optimizer__reference_batch_size=0), "reference_batch_size=0 must be None or a"),
    ],
)
def test_mistakes_are_named(config, changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        loop.prepare(broken(config, **changes), str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("task", ["classification", "detection", "segmentation"])
def test_every_field_refuses_a_wrong_type(task):
    """Each in one sentence with its path, whatever its legal values are."""

    def paths(config, prefix=()):
        for name, value in config.items():
            if isinstance(value, ConfigDict):
                yield from paths(value, (*prefix, name))
            else:
                yield (*prefix, name)

    for path in paths(base_config(task)):
        for wrong in (object, {"a": 1}.keys()):
            config = base_config(task).to_dict()
            functools.reduce(dict.__getitem__, path[:-1], config)[path[-1]] = wrong
            with pytest.raises(UserError, match=rf"config\.{'.'.join(path)}[= ]") as raised:
                validate(ConfigDict(config))
            assert "\n" not in str(raised.value)


def test_optional_fields_take_none_and_infinity_on_the_command_line():
    """Where a config file gives a number: its own placeholder would refuse None."""
    argv = ["program", "--config.dataset.num_classes=None", "--config.ema_decay=0.9"]
    argv += ["--config.init_from=a/b.pth", "--config.dataset.data_dir=coco"]
    argv += ["--config.eval_every_epochs=inf", "--config.checkpoint_every_epochs=None"]
    flag_values = flags.FlagValues()
    config = config_flags.DEFINE_config_dict(
        "config", coco.get_config(), flag_values=flag_values, sys_argv=argv
    )
    flag_values(argv)
    assert config.value.dataset.num_classes is None
    assert config.value.ema_decay == 0.9
    assert config.value.eval_every_epochs == math.inf
    assert config.value.checkpoint_every_epochs is None
    assert (config.value.init_from, config.value.dataset.data_dir) == ("a/b.pth", "coco")
    validate(config.value)


def test_fewer_epochs_than_warmup_say_what_to_change():
    config = base_config()
    config.num_epochs = 3
    with pytest.raises(UserError, match=r"shorten it too, .*--config.optimizer.warmup_epochs=0.3$"):
        validate(config)
    config.optimizer.warmup_steps = 100
    validate(config)


def test_a_missing_field_is_named(config):
    del config.seed
    with pytest.raises(ValueError, match="config lacks seed"):
        validate(config)


def test_weights_that_are_not_there_are_named(config, tmp_path):
    config.init_from = str(tmp_path / "gone.pth")
    with pytest.raises(FileNotFoundError, match=r"config.init_from=.*gone.pth' does not exist"):
        loop.prepare(config, str(tmp_path / "run"))


def test_differences_ignore_how_a_run_is_watched():
    old = {"seed": 0, "log_every_steps": 1, "model": {"name": "a", "depths": [1]}}
    new = {"seed": 1, "log_every_steps": 9, "model": {"name": "a", "depths": [2]}}
    assert differences(old, new) == ["model.depths: [1] there, [2] now", "seed: 0 there, 1 now"]


def test_a_field_that_did_not_exist_yet_had_its_default():
    new = json.loads(base_config("segmentation").to_json_best_effort())
    old = copy.deepcopy(new)
    del old["dataset"]["class_names"], old["optimizer"]["warmup_steps"]
    assert differences(old, new) == []
    new["dataset"]["class_names"] = ["a"]
    assert differences(old, new) == ["dataset.class_names: [] there, ['a'] now"]


def test_differences_ignore_how_a_run_is_evaluated():
    old = {"dataset": {"name": "a", "eval_scales": [1.0]}}
    new = {"dataset": {"name": "b", "eval_scales": [0.5, 1.0]}}
    assert differences(old, new) == ["dataset.name: 'a' there, 'b' now"]
