"""Runs that start from weights: `config.init_from`."""

import jax
import numpy as np
import pytest
from flax import nnx

from dwconv_jax import data
from dwconv_jax.convert import load_torch, write_state_dict
from dwconv_jax.convert.__main__ import main as convert
from dwconv_jax.convert.checkpoints import read_weights
from dwconv_jax.training import loop
from dwconv_jax.training.initialize import load_initial_weights
from tests.convert.released import abstract_model, filled_model, random_state_dict

SMALL = dict(patch_size=2, embed_dim=8, depths=(1, 1), window_size=3, in_channels=1)


def released_model(**overrides):
    return abstract_model("dynamic_dwnet_tiny", **SMALL, **overrides)


@pytest.fixture
def released(tmp_path):
    """Writes a file as the authors release them."""

    def write(num_classes):
        path = tmp_path / f"released_{num_classes}.pth"
        write_state_dict(path, random_state_dict(released_model(num_classes=num_classes)))
        return path

    return write


def test_fine_tuning_with_a_new_head(config, released, tmp_path, caplog):
    config.init_from = str(released(1000))
    config.num_epochs, config.optimizer.warmup_epochs = 1, 0.0
    config.optimizer.update(learning_rate=0.0, min_learning_rate=0.0)
    with caplog.at_level("INFO", logger="dwconv_jax"):
        loop.train(config, str(tmp_path / "run"))
    assert "left out the head (head.weight [1000, 16], head.bias [1000])" in caplog.text
    trained = read_weights(tmp_path / "run")
    assert trained["head/bias"].shape == (10,)
    # At a learning rate of 0 the weights are those of the file, and batch norms have moved.
    given = load_torch(released_model(num_classes=1000), config.init_from)
    block = given.stages[0].blocks[0]
    name = "stages/0/blocks/0"
    np.testing.assert_array_equal(trained[f"{name}/mlp/fc1/kernel"], block.mlp.fc1.kernel[...])
    assert not np.array_equal(trained[f"{name}/norm_in/mean"], block.norm_in.mean[...])


def test_evaluation_of_converted_weights_is_that_of_the_model(config, released, tmp_path):
    source, weights = released(10), tmp_path / "weights"
    overrides = [f"--override={name}={value}" for name, value in SMALL.items()]
    convert([str(source), str(weights), "--model=dynamic_dwnet_tiny", *overrides])

    model = load_torch(released_model(num_classes=10), source)
    graph, state = nnx.split(model)
    predict = jax.jit(lambda state, images: nnx.merge(graph, state)(images).argmax(-1))
    right = total = 0
    for batch in data.load_classification(config.dataset).eval_batches(360):
        right += (np.asarray(predict(state, batch["image"])) == batch["label"]).sum()
        total += len(batch["label"])

    for path in (source, weights):
        config.init_from = str(path)
        metrics = loop.evaluate(config, str(tmp_path / "none"))
        assert metrics["accuracy"] == pytest.approx(right / total, abs=1e-6)
    assert not (tmp_path / "none").exists()


def test_weights_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config.init_from='.*gone.pth' does not exist"):
        load_initial_weights(released_model(), str(tmp_path / "gone.pth"))


def test_weights_of_another_model_change_nothing(released):
    model = filled_model("dwnet_tiny")
    before = np.asarray(model.norm.scale[...])
    with pytest.raises(ValueError, match=r"released_10.pth does not fit the model"):
        load_initial_weights(model, str(released(10)))
    np.testing.assert_array_equal(model.norm.scale[...], before)


def test_strict_loading_refuses_another_head(released):
    with pytest.raises(ValueError, match="only the head differs"):
        load_initial_weights(released_model(num_classes=5), str(released(10)), strict=True)
