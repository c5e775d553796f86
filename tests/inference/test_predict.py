"""--mode=predict for classification: a line and a captioned picture for every file."""

import csv
import io

import jax
import numpy as np
import pytest
from PIL import Image

from dwconv_jax import data
from dwconv_jax.errors import UserError
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


def test_a_broken_file_does_not_discard_the_others(trained_run, tmp_path, caplog):
    folder, out = tmp_path / "pictures", tmp_path / "pictures" / "out"
    for name in ("b.png", "sub/a.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 99).save(folder / name)
    (folder / "a.png").write_bytes(b"not a picture")
    for _ in range(2):  # the second time, `out` holds pictures, which are not predicted
        caplog.clear()
        with pytest.raises(UserError, match=r"^1 of 3 pictures could not be read: .*a\.png"):
            predict(str(trained_run[1]), str(folder), str(out))
        assert "leaving out a picture: cannot read" in caplog.text
        with (out / "predictions.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [row["picture"] for row in rows] == ["b.png", "sub/a.png"]
        assert [path.name for path in out.glob("*.png")] == ["sheet_001.png"]


def test_a_folder_without_pictures_is_named(trained_run, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no pictures; legal file names end in \.jpg"):
        predict(str(trained_run[1]), str(tmp_path), str(tmp_path / "out"))


def test_the_folder_of_pictures_is_not_written_to(trained_run, tmp_path):
    Image.new("L", (8, 8), 99).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"--out=.* must not be the folder of --images"):
        predict(str(trained_run[1]), str(tmp_path), f"{tmp_path}/../{tmp_path.name}")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
