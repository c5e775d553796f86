"""From a run to a file: what is written, and what is refused."""

import json
import re

import jax
import numpy as np
import pytest
from jax.export import deserialize

from dwconv_jax.inference import export
from dwconv_jax.inference.export import export_run
from tests.full_disk import full_disk


def test_a_run_becomes_a_file(trained_run, tmp_path):
    _, workdir = trained_run
    out = tmp_path / "models" / "digits.jaxexport"
    message = export_run(str(workdir), str(out))
    assert re.search(r"dynamic_dwnet_tiny, step 12, for cpu, cuda, tpu, \d+\.\d MB", message)
    difference = re.search(r"difference from the model: (\S+) of", message).group(1)
    assert float(difference) <= 1e-5
    assert re.search(r"latency on cpu: \d+\.\d+ ms for 1, \d+\.\d+ ms for 32 image", message)
    exported = deserialize(bytearray(out.read_bytes()))
    logits = exported.call(np.zeros((3, 8, 8, 1), np.uint8))
    assert logits.shape == (3, 10) and jax.numpy.isfinite(logits).all()
    about = json.loads(out.with_suffix(".json").read_text())
    assert about["classes"] == [str(i) for i in range(10)]
    assert about["input"] == {"dtype": "uint8", "shape": ["batch", 8, 8, 1]}
    assert sorted(p.name for p in out.parent.iterdir()) == ["digits.jaxexport", "digits.json"]
    with pytest.raises(FileExistsError, match=r"digits.jaxexport exists already; name a new file"):
        export_run(str(workdir), str(out))


def test_what_is_not_the_model_is_not_written(trained_run, tmp_path, monkeypatch):
    _, workdir = trained_run
    monkeypatch.setattr(export, "relative_difference", lambda *_: float("nan"))
    with pytest.raises(ValueError, match="differs from the model by nan: not written"):
        export_run(str(workdir), str(tmp_path / "model.jaxexport"))
    assert not list(tmp_path.iterdir())


def test_a_run_without_checkpoint_is_refused(config, tmp_path):
    with pytest.raises(FileNotFoundError, match="has no checkpoint"):
        export_run(str(tmp_path / "run"), str(tmp_path / "model.jaxexport"), config=config)


def test_a_full_disk_leaves_nothing_that_blocks_the_next_try(trained_run, tmp_path, monkeypatch):
    out, write = tmp_path / "model.jaxexport", export.write_atomically

    def write_on_a_full_disk(path, content):
        with full_disk(2_000):
            write(path, content)

    monkeypatch.setattr(export, "write_atomically", write_on_a_full_disk)
    with pytest.raises(OSError, match=rf"\[Errno 27\] File too large: '{out}'"):
        export_run(str(trained_run[1]), str(out))
    assert not list(tmp_path.iterdir())
