"""Folders of timm and our own, from the hub's cache; and what is wrong with them."""

import errno
import json
import os
import shutil
import sys

import jax
import numpy as np
import pytest
from flax import nnx
from PIL import Image

import dwconv_jax
from dwconv_jax import hub
from dwconv_jax.convert.torch_files import write_state_dict
from dwconv_jax.errors import MissingPackageError, UserError
from dwconv_jax.models import add_lora, merge_lora

REPOSITORY = "timm/convnext_tiny.test"


@pytest.fixture(scope="module")
def timm_folder(expected, tmp_path_factory):
    folder = tmp_path_factory.mktemp("timm")
    (folder / "config.json").write_text(json.dumps(expected.config["config.json"]))
    write_state_dict(folder / "model.safetensors", expected.under("param"))
    return folder


@pytest.fixture
def cache(timm_folder, tmp_path, monkeypatch):
    """A cache of the hub that holds the repository, without network."""
    from huggingface_hub import constants

    repository = tmp_path / f"models--{REPOSITORY.replace('/', '--')}"
    commit = "0123456789abcdef0123456789abcdef01234567"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    shutil.copytree(timm_folder, repository / "snapshots" / commit)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def model():
    model = dwconv_jax.create_model(
        "dwnet_tiny", embed_dim=8, depths=[1, 1, 1, 1], num_classes=3, rngs=nnx.Rngs(0)
    )
    model.class_names = ("cat", "dog", "bird")
    return model


@pytest.fixture
def saved(model, tmp_path):
    folder = tmp_path / "saved"
    model.save_pretrained(folder)
    return folder


def edit(folder, **fields):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def assert_same_weights(a, b):
    for kind in (nnx.Param, nnx.BatchStat):
        jax.tree.map(np.testing.assert_array_equal, nnx.state(a, kind), nnx.state(b, kind))


def test_a_repository_of_timm_gives_timms_logits(expected, cache):
    model = dwconv_jax.create_model(f"hf-hub:{REPOSITORY}")
    inputs = dwconv_jax.preprocess(model)(expected["input/picture"].astype(np.uint8))
    logits = model(inputs)
    np.testing.assert_allclose(logits, expected["logits"][None], atol=2e-3 * abs(logits).max())


def test_its_weights_go_into_another_head(cache):
    model = dwconv_jax.create_model(
        "convnext_tiny", pretrained=f"{REPOSITORY}@main", num_classes=2, rngs=nnx.Rngs(0)
    )
    assert model(np.zeros((1, 32, 32, 3), np.float32)).shape == (1, 2)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm/not_there", "no config.json of 'timm/not_there'"),
        ("hf-hub:timm/convnext_tiny.test@other", "at 'other'"),
        ("weights/that/are/not/there.pth", "neither a file, nor a folder, nor a repository"),
    ],
)
def test_what_is_not_there_is_named(cache, name, message):
    with pytest.raises(UserError, match=message):
        dwconv_jax.create_model("convnext_tiny", pretrained=name)


def test_the_hub_needs_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingPackageError, match=r"dwconv-jax\[hub\]"):
        dwconv_jax.create_model("hf-hub:timm/convnext_tiny.fb_in1k")


def test_saved_models_are_the_same(model, saved):
    again = dwconv_jax.create_model(pretrained=saved)
    assert_same_weights(again, model)
    assert nnx.graphdef(again) == nnx.graphdef(model)
    assert again.class_names == ("cat", "dog", "bird")
    assert_same_weights(dwconv_jax.create_model("dwnet_tiny", pretrained=saved), model)


def test_any_model_can_be_saved(tmp_path):
    mixer = dict(connectivity="window", kernel_size=5, dynamic="attention", num_heads=(1, 2, 2, 2))
    model = dwconv_jax.create_model(
        "upernet_swin_tiny", embed_dim=8, depths=(1, 1, 1, 1), head_features=8, num_classes=4,
        auxiliary_features=8, param_dtype=jax.numpy.bfloat16, mixer=mixer, rngs=nnx.Rngs(0),
    )  # fmt: skip
    model.save_pretrained(tmp_path)
    assert_same_weights(dwconv_jax.create_model(pretrained=tmp_path), model)


def test_a_backbone_takes_the_weights_of_a_saved_classifier(model, saved):
    task_model = dwconv_jax.create_model("upernet_dwnet_tiny", pretrained=saved, head_features=8)
    stems = (nnx.state(m.patch_embed, nnx.Param) for m in (task_model.backbone, model))
    jax.tree.map(np.testing.assert_array_equal, *stems)


def test_arguments_that_a_file_cannot_hold_are_named_before_anything_is_written(tmp_path):
    layer = dict(connectivity=dwconv_jax.ops.Window(5), dynamic="none")
    model = dwconv_jax.create_model(
        "dwnet_tiny", embed_dim=8, depths=(1,), mixer=layer, rngs=nnx.Rngs(0)
    )
    with pytest.raises(UserError, match=r"argument mixer\['connectivity'\]=Window"):
        model.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_low_rank_products_are_merged_first(model, tmp_path):
    add_lora(model, 2, rngs=nnx.Rngs(0))
    for give_away in (model.save_pretrained, lambda _: dwconv_jax.convert.to_torch(model)):
        with pytest.raises(UserError, match=r"layers such as 'stages/0/.*'.*; merge_lora\(model\)"):
            give_away(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()
    merge_lora(model).save_pretrained(tmp_path / "saved")
    assert dwconv_jax.convert.to_torch(model)


def test_damaged_weights_are_named(saved):
    weights = saved / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(UserError, match=r"model.safetensors is damaged: its SHA-256"):
        dwconv_jax.create_model(pretrained=saved)


def test_truncated_weights_of_timm_are_named(timm_folder, tmp_path):
    folder = tmp_path / "timm"
    shutil.copytree(timm_folder, folder)
    os.truncate(folder / "model.safetensors", 1000)
    with pytest.raises(UserError, match=r"model.safetensors: is not a safetensors file"):
        dwconv_jax.create_model(pretrained=folder)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(architecture="swin_tiny"), "its architecture is 'swin_tiny', not 'dwnet_tiny'"),
        (dict(architecture="resnet50"), "config.json: unknown model 'resnet50'"),
        (dict(arguments=dict(embd_dim=8)), "unknown override 'embd_dim'"),
        (dict(label_names=["cat"]), "label_names has 1 names for 3 classes"),
        (dict(thresholds=[0.5]), r"thresholds must be 3 numbers from 0 to 1, .* got \[0.5\]"),
        (dict(thresholds=[0.5, 0.1, 7]), "thresholds must be 3 numbers from 0 to 1"),
        (dict(pretrained_cfg=dict(input_size=7)), "does not describe a model"),
    ],
)
def test_configs_that_do_not_fit_are_named(saved, fields, message):
    edit(saved, **fields)
    with pytest.raises(UserError, match=message):
        dwconv_jax.create_model("dwnet_tiny", pretrained=saved)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(architecture="efficientnet_lite0"), "'tf_efficientnet_lite0'"),
        (dict(model_args=dict(global_pool="max")), "global_pool must be 'avg', got 'max'"),
        (dict(model_args=dict(use_grn=True)), "model_args has 'use_grn'"),
    ],
)
def test_models_of_timm_that_compute_something_else_are_refused(
    timm_folder, tmp_path, fields, message
):
    shutil.copytree(timm_folder, tmp_path, dirs_exist_ok=True)
    edit(tmp_path, **fields)
    with pytest.raises(UserError, match=message):
        dwconv_jax.create_model(pretrained=tmp_path)


def test_descriptions_of_labels_are_the_class_names(timm_folder, tmp_path):
    shutil.copytree(timm_folder, tmp_path, dirs_exist_ok=True)
    labels = [f"n{i}" for i in range(7)]
    edit(tmp_path, label_names=labels, label_descriptions={"n1": "goldfish"})
    model = dwconv_jax.create_model(pretrained=tmp_path)
    assert model.class_names == ("n0", "goldfish", *labels[2:])


@pytest.mark.parametrize("field", ["label_names", "architecture", "sha256"])
def test_missing_fields_are_named(saved, field):
    path = saved / "config.json"
    fields = json.loads(path.read_text())
    del fields[field]
    path.write_text(json.dumps(fields))
    with pytest.raises(UserError, match=f"config.json lacks the field '{field}'"):
        dwconv_jax.create_model(pretrained=saved)


def test_weights_without_a_config_need_a_name(model, tmp_path):
    path = tmp_path / "weights.safetensors"
    write_state_dict(path, dwconv_jax.convert.to_torch(model))
    with pytest.raises(UserError, match="does not say which model it holds"):
        dwconv_jax.create_model(pretrained=path)


def test_drawing_weights_needs_keys():
    with pytest.raises(UserError, match="needs rngs"):
        dwconv_jax.create_model("dwnet_tiny")


def test_the_card_tells_what_is_known(model, tmp_path):
    pytest.importorskip("matplotlib")
    info = hub.CardInfo(
        license="mit",
        dataset="pets",
        metrics={"accuracy": 0.9125},
        training_command="dwconv-jax train",
        classes=[
            {"name": "cat|lynx", "recall": 0.5, "support": 2},
            {"name": "dog", "recall": None, "support": 0},
        ],
        confusion_matrix=[[1, 1], [0, 0]],
    )
    model.save_pretrained(tmp_path, info)
    card = (tmp_path / "README.md").read_text()
    with Image.open(tmp_path / "confusion_matrix.png") as picture:
        assert "](confusion_matrix.png)" in card and picture.format == "PNG"
    count = sum(p.size for p in jax.tree.leaves(nnx.state(model, nnx.Param)))
    for line in (
        "license: mit", "| trained on | pets |", "| accuracy | 0.9125 |", "dwconv-jax train",
        f"| parameters | {count:,} |", "| class | recall % | support |\n|---|---|---|",
        "| cat&#124;lynx | 50.0 | 2 |\n| dog |  | 0 |",
    ):  # fmt: skip
        assert line in card


def test_a_confusion_matrix_needs_the_names_of_its_classes(model, tmp_path):
    info = hub.CardInfo(confusion_matrix=[[1, 1], [0, 0]])
    with pytest.raises(UserError, match=r"has 2 rows, and info\.classes 0 entries"):
        model.save_pretrained(tmp_path / "model", info)
    assert not (tmp_path / "model").exists()


def test_pushing_uploads_the_folder(model, monkeypatch):
    calls = {}

    class Api:
        def __init__(self, token):
            calls["token"] = token

        def create_repo(self, repo, **options):
            calls["repo"] = repo, options

        def upload_folder(self, *, repo_id, folder_path, commit_message):
            calls["files"] = sorted(os.listdir(folder_path))
            return type("Commit", (), {"commit_url": f"https://hub/{repo_id}"})

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    assert dwconv_jax.push_to_hub(model, "me/model", token="t") == "https://hub/me/model"
    assert calls == {
        "token": "t",
        "repo": ("me/model", {"private": False, "exist_ok": True}),
        "files": ["README.md", "config.json", "model.safetensors"],
    }


def test_other_modules_are_refused(tmp_path):
    layer = dwconv_jax.LocallyConnected(4, kernel_size=3, rngs=nnx.Rngs(0))
    with pytest.raises(UserError, match="only a model that create_model built"):
        hub.save_pretrained(layer, tmp_path / "saved")


def test_a_failed_save_names_the_file_and_leaves_the_old_model(model, saved, monkeypatch):
    def fail(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("safetensors.numpy.save", fail)
    with pytest.raises(OSError, match=r"No space left on device: .*model\.safetensors"):
        model.save_pretrained(saved)
    assert sorted(os.listdir(saved)) == ["README.md", "config.json", "model.safetensors"]
    assert_same_weights(dwconv_jax.create_model(pretrained=saved), model)
