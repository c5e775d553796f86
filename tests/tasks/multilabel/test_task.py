"""Multi-label classification: its loss and scores, and a run that learns, predicts and reports."""

import csv
import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from sklearn import metrics as sklearn_metrics

import dwconv_jax
from dwconv_jax.inference.evaluate import evaluate
from dwconv_jax.inference.export import export_run
from dwconv_jax.inference.predict import predict
from dwconv_jax.inference.trained import load_trained
from dwconv_jax.report_sections import results
from dwconv_jax.tasks.multilabel.metrics import MultilabelMetrics, Outputs
from dwconv_jax.tasks.registry import create_task
from dwconv_jax.training import loop
from tests.tasks.multilabel.conftest import COLORS, small_config


def test_labels_are_zeros_and_ones(config, colors_dir):
    dataset = create_task(config).dataset
    assert dataset.class_names == ("blue", "green", "red")
    (batch, last) = dataset.eval_batches(16)
    assert last["mask"].sum() == 4 and not last["label"][4:].any()
    lines = (colors_dir / "test.csv").read_text().splitlines()[1:]
    for line, label in zip(lines, [*batch["label"], *last["label"][:4]], strict=True):
        expected = [name in line for name in dataset.class_names]
        np.testing.assert_array_equal(label, expected)
    counts = dataset.count_labels()
    text = (colors_dir / "train.csv").read_text()
    assert counts.tolist() == [text.count(name) for name in dataset.class_names]
    np.testing.assert_allclose(dataset.balanced_weights(), (48 - counts) / counts)


@pytest.mark.parametrize("weights", [None, (1.0, 2.0, 3.0)])
def test_the_loss_is_binary_cross_entropy(config, rng, weights):
    config.class_weights, config.label_smoothing = weights, 0.2
    logits = jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)
    label = rng.integers(0, 2, (4, 3))
    batch = {"image": np.zeros((4, 8, 8, 3), np.float32), "label": jnp.asarray(label)}
    loss, metrics = create_task(config).loss(lambda *_, **__: logits, batch, nnx.Rngs(0))
    chance, target = 1 / (1 + np.exp(-np.asarray(logits))), label * 0.8 + 0.1
    positive = target * np.log(chance) * (1 if weights is None else np.array(weights)[None])
    expected = -(positive + (1 - target) * np.log(1 - chance)).mean()
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert float(metrics["label_accuracy"]) == ((chance > 0.5) == (label > 0)).mean()


def test_scores_are_those_of_scikit_learn(config, rng):
    label = rng.integers(0, 2, (40, 3))
    label[:, 2] = 0  # never there
    chance = np.float32(np.clip(0.4 * label + 0.6 * rng.random((40, 3)), 0, 1))
    mask, loss = np.float32(np.arange(40) < 37), np.float32(rng.random(40))
    outputs = Outputs(*map(jnp.asarray, (loss, chance, label, mask)))
    halves = [
        MultilabelMetrics.from_model_output(Outputs(*(x[rows] for x in outputs)))
        for rows in (slice(25), slice(25, None))
    ]
    summary = create_task(config).summarize(halves[0].merge(halves[1]))
    label, chance = label[:37], chance[:37]
    aps = [sklearn_metrics.average_precision_score(label[:, k], chance[:, k]) for k in range(2)]
    assert [entry["ap"] for entry in summary.classes] == [*map(pytest.approx, aps), None]
    assert summary.metrics["mean_ap"] == pytest.approx(np.mean(aps))
    assert summary.metrics["loss"] == pytest.approx(loss[:37].mean())
    f1 = sklearn_metrics.f1_score(label, chance >= 0.5, average="micro")
    assert summary.metrics["micro_f1"] == pytest.approx(f1)
    first = summary.classes[0]
    best = sklearn_metrics.f1_score(label[:, 0], chance[:, 0] >= first["best_threshold"])
    assert first["best_f1"] == pytest.approx(best)
    # Halfway between probabilities, where rounding does not matter.
    assert np.abs(chance[:, 0] - first["best_threshold"]).min() > 1e-6
    thresholds = np.unique(chance[:, 0])
    scores = [sklearn_metrics.f1_score(label[:, 0], chance[:, 0] >= t) for t in thresholds]
    assert best == pytest.approx(max(scores))


@pytest.fixture(scope="module")
def run(colors_dir, tmp_path_factory):
    """The workdir of a run, its metrics, and the thresholds that its evaluation found."""
    pytest.importorskip("matplotlib")
    workdir = tmp_path_factory.mktemp("runs") / "colors"
    metrics = loop.train(small_config(colors_dir), str(workdir))
    evaluation = json.loads((workdir / "evaluation.json").read_text())
    return workdir, metrics, {c["name"]: c["best_threshold"] for c in evaluation["classes"]}


def test_a_run_learns_and_reports(run):
    workdir, metrics, thresholds = run
    assert metrics["mean_ap"] > 0.95 and metrics["macro_f1"] > 0.7
    assert tuple(thresholds) == COLORS
    trained = load_trained(str(workdir))
    evaluation = evaluate(trained)
    assert evaluation.summary.metrics == pytest.approx(metrics)
    headings = [section.heading for section in results(trained, evaluation)]
    assert headings[:2] == ["Metrics", "Classes"]
    for mistake in evaluation.mistakes:
        assert mistake.truth != mistake.prediction and mistake.name.endswith(".png")


def test_pictures_get_the_classes_that_reach_the_thresholds_of_the_evaluation(
    run, colors_dir, tmp_path
):
    workdir, _, thresholds = run
    predict(str(workdir), str(colors_dir), str(tmp_path))
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 68
    model = load_trained(str(workdir)).model
    for row in rows[:8]:
        logits = model(dwconv_jax.preprocess(model)(colors_dir / row["picture"]))[0]
        chances = dict(zip(COLORS, (1 / (1 + np.exp(-logits))).tolist(), strict=True))
        assert {name: float(row[name]) for name in COLORS} == pytest.approx(chances, abs=1e-4)
        present = sorted((n for n in COLORS if chances[n] >= thresholds[n]), key=chances.get)[::-1]
        assert row["labels"] == ";".join(present)
        assert [guess.name for guess in dwconv_jax.predict(model, colors_dir / row["picture"])] == (
            present
        )


def test_without_their_evaluation_thresholds_are_even_or_those_of_the_config(run, tmp_path, caplog):
    workdir = tmp_path / "run"
    shutil.copytree(run[0], workdir)
    evaluation = json.loads((workdir / "evaluation.json").read_text())
    (workdir / "evaluation.json").write_text(json.dumps(evaluation | {"step": 3}))
    with caplog.at_level("INFO", "dwconv_jax"):
        assert load_trained(str(workdir)).model.thresholds == (0.5,) * 3
    assert "its thresholds are 0.5; evaluate it" in caplog.text
    config = small_config(None)
    config.update(json.loads((workdir / "config.json").read_text()))
    config.dataset.threshold = 0.3
    assert load_trained(str(run[0]), config=config).model.thresholds == (0.3,) * 3


def test_a_saved_or_exported_run_keeps_its_thresholds(run, colors_dir, tmp_path):
    workdir, metrics, thresholds = run
    trained, picture = load_trained(str(workdir)), colors_dir / "test_0.png"
    trained.save_pretrained(tmp_path / "saved")
    model = dwconv_jax.create_model(pretrained=tmp_path / "saved")
    assert model.thresholds == tuple(thresholds.values())
    assert dwconv_jax.predict(model, picture) == dwconv_jax.predict(trained.model, picture)
    guesses = dwconv_jax.predict(model, [picture], top=3)[0]
    assert {guess.name for guess in guesses} == set(COLORS)  # below their thresholds too
    card = (tmp_path / "saved" / "README.md").read_text()
    assert f"| mean ap | {metrics['mean_ap']:.4g} |" in card
    assert "| labels of an image | any number" in card
    header = "| class | precision % | recall % | f1 % | support | ap % | best f1 % |"
    assert header in card and "\n| blue |" in card
    fresh = dwconv_jax.create_model(pretrained=tmp_path / "saved", num_classes=2)
    assert fresh.thresholds is None

    export_run(str(workdir), str(tmp_path / "colors.jaxexport"))
    about = json.loads((tmp_path / "colors.json").read_text())
    assert about["thresholds"] == [*thresholds.values()] and "sigmoids" in about["output"]
