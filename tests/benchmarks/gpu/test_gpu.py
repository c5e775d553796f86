"""What the GPU benchmark counts, on programs for processors and on the calls of XLA:GPU."""

import json

import jax
import jax.numpy as jnp
import pytest

from benchmarks.gpu import __main__ as gpu

PROGRAM = """\
HloModule step

%inner (p: bf16[8,4]) -> bf16[8,4] {
  %p = bf16[8,4]{1,0} parameter(0)
  ROOT %n = bf16[8,4]{1,0} negate(%p)
}

%body (s: (s32[], bf16[8,4])) -> (s32[], bf16[8,4]) {
  %s = (s32[], bf16[8,4]) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %v = bf16[8,4]{1,0} get-tuple-element(%s), index=1
  %f = bf16[8,4]{1,0} fusion(%v), kind=kLoop, calls=%inner
  ROOT %t = (s32[], bf16[8,4]) tuple(%i, %f)
}

%condition (c: (s32[], bf16[8,4])) -> pred[] {
  %c = (s32[], bf16[8,4]) parameter(0)
  ROOT %yes = pred[] constant(true)
}

ENTRY %main (x: bf16[8,4], k: bf16[4,4]) -> bf16[8,4] {
  %x = bf16[8,4]{1,0} parameter(0)
  %k = bf16[4,4]{1,0} parameter(1)
  %conv = (bf16[8,4]{1,0}, u8[0]{0}) custom-call(%x, %k), custom_call_target="__cudnn$convForward"
  %y = bf16[8,4]{1,0} get-tuple-element(%conv), index=0
  %zero = s32[] constant(0)
  %start = (s32[], bf16[8,4]) tuple(%zero, %y)
  %loop = (s32[], bf16[8,4]) while(%start), condition=%condition, body=%body, \
backend_config={"known_trip_count":{"n":"49"}}
  %z = bf16[8,4]{1,0} get-tuple-element(%loop), index=1
  ROOT %sum = bf16[8,4]{1,0} all-reduce(%z), replica_groups=[1,8]<=[8], to_apply=%inner
}
"""


@pytest.fixture
def row():
    return gpu.row("case", "forward", PROGRAM, 2**20, 1.5, 8)


def test_kernels_and_launches(row):
    assert row.kernels == {"cuDNN": 1, "fusion": 1, "other": 1}
    assert row.launches == 1 + 49 + 1
    assert (row.collectives, row.temporaries_mib) == (1, 1)
    assert row.sent_mb == pytest.approx(2 * 64 * 7 / 8 / 1e6)


def test_rows_are_printed_and_written(row, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    gpu.print_row(row)
    printed = "| case | forward | 3: 1 cuDNN, 1 fusion, 1 other | 51 | 1 |"
    assert printed in capsys.readouterr().out
    gpu.write(tmp_path / "out", {"topology": "h100:8"}, [row])
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["rows"][0]["launches"] == 51
    assert (tmp_path / "out.png").stat().st_size > 0


@pytest.mark.parametrize("name", gpu.OPERATORS)
def test_the_operators_are_legal(name):
    operator = gpu.OPERATORS[name]
    arguments = [jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in operator.shapes]
    y = jax.eval_shape(operator.function, *arguments)
    assert (y.shape, y.dtype) == (arguments[0].shape, jnp.bfloat16)
