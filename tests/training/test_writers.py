"""`metrics.jsonl` survives damage, and a disk that is full is named."""

import json

import pytest
from etils import epath

from dwconv_jax.command_line import shown_errors
from dwconv_jax.training.jsonl import read_jsonl
from dwconv_jax.training.writers import MetricLog
from tests.full_disk import full_disk

ENTRIES = [{"step": step, "split": "train", "loss": 1 / step} for step in (1, 2, 3)]
LINES = [json.dumps(entry).encode() for entry in ENTRIES]


@pytest.mark.parametrize(
    "damage", [b"\x00\xff\x00", b'{"split": "train"}', b'{"step": 1, "spl', b"[]", b"null", b""]
)
def test_a_damaged_line_is_skipped_and_named(tmp_path, caplog, damage):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"\n".join([*LINES[:2], damage, *LINES[2:], b""]))
    assert read_jsonl(epath.Path(tmp_path)) == ENTRIES
    assert f"skipping 1 damaged line(s) of {path}, the first one is line 3" in caplog.text


def test_a_cut_off_tail_is_usual_and_resuming_rewrites_the_file(tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"\n".join([*LINES, b'{"step": 4, "sp\xff']))
    log = MetricLog(epath.Path(tmp_path), first_step=2)
    log.write(3, "train", {"loss": 1 / 3})
    log.close()
    assert path.read_bytes() == b"\n".join([*LINES, b""])
    assert not caplog.text
    assert len(list(tmp_path.iterdir())) == 2  # and TensorBoard's file


@pytest.mark.parametrize(
    ("entries", "limit", "named"),
    [(ENTRIES, 10, "metrics.jsonl"), ([], 50, "the TensorBoard file of")],
)
def test_a_full_disk_is_one_sentence(tmp_path, entries, limit, named):
    lines = [json.dumps(entry).encode() for entry in entries]
    (tmp_path / "metrics.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    with pytest.raises(SystemExit) as exit_, full_disk(limit), shown_errors():
        MetricLog(epath.Path(tmp_path), first_step=3).write(4, "train", {"loss": 1.0})
    message = exit_.value.code
    assert message.startswith("error: ") and len(message.splitlines()) == 1
    assert named in message and str(tmp_path) in message and "{{" not in message
    assert read_jsonl(epath.Path(tmp_path)) == entries
    assert not list(tmp_path.glob("*.tmp"))
