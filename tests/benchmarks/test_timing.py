"""The measuring itself: pairs, foreign load, files. No speed is asserted."""

import argparse
import json

import jax.numpy as jnp
import pytest

from benchmarks import timing
from benchmarks.session import Session, session, using
from dwconv_jax import ops


class Load:
    """Foreign load in the first `disturbed` intervals."""

    def __init__(self, disturbed):
        self.left = disturbed

    def start(self):
        pass

    def was_seen(self):
        self.left -= 1
        return self.left >= 0


@pytest.mark.parametrize(("disturbed", "noisy"), [(0, False), (2, False), (100, True)])
def test_disturbed_pairs_are_discarded(monkeypatch, disturbed, noisy):
    monkeypatch.setattr(timing, "ForeignLoad", lambda pids: Load(disturbed))
    monkeypatch.setattr(timing, "_PAIR_SECONDS", 0)
    times = timing.compare(lambda repeats: 0.5, lambda repeats: 1.0, None, pairs=3)
    assert times.ratio == times.ratio_low == times.ratio_high == 2
    assert times.is_noisy == noisy
    assert times.discarded == min(disturbed, 12)


def test_rows_are_printed_and_written(monkeypatch, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(timing, "_PAIR_SECONDS", 0)
    monkeypatch.setattr("benchmarks.session.start_torch", lambda *settings: None)
    options = argparse.Namespace(
        pairs=1, torch_python="python", memory="plain", output=tmp_path / "out"
    )
    arguments = (jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2)))
    with session("title", options) as run:
        run.against(("case", "forward", "XLA"), ops.depthwise_conv, arguments, "twin", lambda n: 1)
        run.against_torch(("case", "forward", "XLA"), ops.depthwise_conv, arguments, "static", {})
    assert "| case | forward | XLA | twin |" in capsys.readouterr().out
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["machine"]["torch"] == "not found"
    assert [row["peer"] for row in record["rows"]] == ["twin"]
    assert (tmp_path / "out.png").stat().st_size > 0


def test_a_peer_whose_package_is_missing_is_left_out(monkeypatch, tmp_path, capsys):
    class Peer:
        version, pid = "2.14", 1

        def seconds(self, *question):
            raise ModuleNotFoundError("its Python has no timm")

    options = argparse.Namespace(pairs=1, memory="plain", output=tmp_path / "out")
    run = Session("title", options, Peer())
    label = ("case", "evaluation", "XLA")
    run.measure_against_torch(label, 1.0, lambda repeats: 1.0, "model", {}, "timm")
    assert run.rows == []
    assert "timm is left out, since its Python has no timm\n" in capsys.readouterr().out


def test_the_lowering_is_chosen_and_given_back(monkeypatch):
    monkeypatch.delenv("DWCONV_JAX_CPU_KERNEL", raising=False)
    before = ops.describe_lowerings()
    with using("XLA"):
        assert ops.describe_lowerings()["depthwise"] == "sums of shifted products"
    assert ops.describe_lowerings() == before
