"""A wheel, installed into an empty environment, works outside of the checkout."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

REPOSITORY = Path(__file__).parents[1]
SOURCES = (
    "LICENSE", "MANIFEST.in", "README.md", "configs", "dwconv_jax", "pyproject.toml", "setup.py",
)  # fmt: skip


def find_python(version):
    """A Python of a version on the PATH or beside this one, where version managers put them."""
    name = f"python{version}"
    beside = sorted(Path(sys.base_prefix).parent.glob(f"*{version}*/bin/{name}"))
    for python in (*beside, *filter(None, [shutil.which(name)])):
        works = subprocess.run([python, "-m", "venv", "--help"], capture_output=True)
        if works.returncode == 0:
            return python
    return pytest.skip(f"no {name} was found")


def run(*command, cwd):
    environment = {name: v for name, v in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def make_environment(python, path, *packages):
    run(python, "-m", "venv", path, cwd=path.parent)
    run(path / "bin" / "python", "-m", "pip", "install", "--quiet", *packages, cwd=path.parent)
    return path / "bin"


def build_wheel(python, folder):
    """Builds from a copy, since files of earlier builds in the checkout end in wheels, too."""
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        path, copy = REPOSITORY / name, source / name
        if path.is_dir():
            shutil.copytree(
                path, copy, symlinks=True, ignore=shutil.ignore_patterns("*.so", "__pycache__")
            )
        else:
            shutil.copy(path, copy)
    builder = make_environment(python, folder / "builder", "build")
    run(builder / "python", "-m", "build", "--wheel", "--outdir", folder, cwd=source)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("version", ["3.11", "3.12"])
def test_an_installed_wheel_trains_and_predicts(version, tmp_path):
    python = find_python(version)
    wheel = build_wheel(python, tmp_path)
    program = make_environment(python, tmp_path / "venv", f"{wheel}[train]") / "dwconv-jax"
    data, pictures = tmp_path / "data", tmp_path / "pictures"
    log = run(
        program, "train", "--config=digits", "--workdir=r", f"--config.dataset.data_dir={data}",
        "--config.num_steps=22", "--config.optimizer.warmup_steps=2", cwd=tmp_path,
    )  # fmt: skip
    assert "done: 22 steps" in log
    assert "kernel is not built" not in log
    pictures.mkdir()
    for i in range(3):
        Image.new("L", (8, 8), 80 * i).save(pictures / f"{i}.png")
    run(program, "predict", "--workdir=r", f"--images={pictures}", "--out=o", cwd=tmp_path)
    with (tmp_path / "o" / "predictions.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 3
    assert "dwnet_tiny" in run(program, "models", "dwnet", cwd=tmp_path)
