"""--mode=predict for classification: a line and a captioned picture for every file."""

import csv
import io

import jax
import numpy as np
import pytest
from PIL import Image

from dwconv_jax import data
from dwconv_jax.inference.predict import predict
from dwconv_jax.inference.trained import load_trained

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def predicted(trained_run, tmp_path_factory):
    """What the model says of 50 test digits, and the folder of what is said of them as files."""
    config, workdir = trained_run
    folder, out = tmp_path_factory.mktemp("pictures"), tmp_path_factory.mktemp("out") / "new"
    batch = next(data.load_classification(config.dataset).eval_batches(50))
    for i, image in enumerate(batch["image"]):
        pixels = np.round((image[..., 0] * 0.5 + 0.5) * 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"digit_{i:02d}.png")
    predict(str(workdir), str(folder), str(out))
    model = load_trained(str(workdir)).model
    return np.asarray(jax.nn.softmax(jax.jit(lambda x: model(x))(batch["image"]))), out


def test_every_picture_has_a_line(predicted):
    probabilities, out = predicted
    with (out / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["picture"] for row in rows] == [f"digit_{i:02d}.png" for i in range(50)]
    chances = [[float(row[f"probability_{k}"]) for k in range(1, 6)] for row in rows]
    assert all(row == sorted(row, reverse=True) and 0 < sum(row) <= 1.001 for row in chances)
    assert [int(row["class_1"]) for row in rows] == probabilities.argmax(-1).tolist()
    best = np.array([row[0] for row in chances])
    np.testing.assert_allclose(best, probabilities.max(-1), atol=1e-4)


def test_sheets_show_every_picture(predicted):
    sheets = sorted(predicted[1].glob("sheet_*.png"))
    assert [sheet.name for sheet in sheets] == ["sheet_001.png", "sheet_002.png"]
    shapes = [np.asarray(Image.open(io.BytesIO(sheet.read_bytes()))).shape for sheet in sheets]
    assert shapes[0][1] > 1000 and shapes[0][0] > 4 * shapes[1][0]  # 48 pictures, and 2


def test_a_file_that_is_no_picture_leaves_no_table(trained_run, tmp_path):
    _, workdir = trained_run
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r"cannot read .*broken\.png"):
        predict(str(workdir), str(tmp_path / "pictures"), str(tmp_path / "out"))
    assert not (tmp_path / "out" / "predictions.csv").exists()
