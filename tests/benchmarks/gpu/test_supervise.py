"""Nothing that a stage does costs what was measured: crashes, hangs and cuts are rows."""

import json
import sys
import time

import pytest

from benchmarks.gpu import hardware, supervise, worker
from benchmarks.gpu.stages.case import Case
from benchmarks.gpu.tables import print_tables

# Speaks as a worker does; its cases are statements.
SCRIPT = """
import json, os, signal, sys, time

def send(**message):
    print(json.dumps(message), flush=True)

cases = json.loads(sys.argv[1])
for index, case in list(enumerate(cases))[int(sys.argv[2]):]:
    send(begin=index, case=case, seconds=1.5)
    exec(case)
    send(row={"us": index})
send(end=True)
"""
CRASH, HANG = "os.kill(os.getpid(), signal.SIGSEGV)", "time.sleep(60)"


def rows_of(cases, limit=30.0, script=SCRIPT):
    rows = []
    supervise.supervise(
        lambda first: [sys.executable, "-c", script, json.dumps(cases), str(first)],
        limit,
        rows.append,
    )
    return rows


def test_others_run_after_a_crash_and_a_hang():
    assert rows_of(["pass", CRASH, "sys.exit(7)", HANG, "send(row={'ms': 1})"]) == [
        {"case": "pass", "us": 0},
        {"case": CRASH, "error": "the process ended by SIGSEGV"},
        {"case": "sys.exit(7)", "error": "the process ended with status 7"},
        {"case": HANG, "error": "no result within 1.5 s"},
        {"case": "send(row={'ms': 1})", "ms": 1},
        {"case": "send(row={'ms': 1})", "us": 4},
    ]


def test_a_stage_ends_with_its_time():
    began = time.monotonic()
    cases = ["pass", *["time.sleep(0.3)"] * 20]
    *measured, last = rows_of(cases, limit=2.0)
    assert measured[0] == {"case": "pass", "us": 0}
    assert last == {"case": "time.sleep(0.3)", "cut": "the time for this stage was over"}
    assert time.monotonic() - began < 5


def test_a_lost_gpu_is_told_once_and_found_again():
    lost = f"send(row={{'error': 'illegal access'}}); sys.exit({supervise.LOST_GPU})"
    assert rows_of([lost, "pass"]) == [
        {"case": lost, "error": "illegal access"},
        {"case": "pass", "us": 1},
    ]


def test_a_process_that_does_not_start_is_a_row():
    [row] = rows_of(["pass"], script="raise SystemExit(2)")
    assert row == {"case": "start", "error": "the process ended with status 2"}


def test_without_a_gpu_nothing_else_is_tried():
    with pytest.raises(SystemExit) as ended:
        rows_of(["pass"], script=f"raise SystemExit({supervise.NO_GPU})")
    assert ended.value.code == supervise.NO_GPU


def failing():
    yield {"us": 1}
    raise ValueError("no such kernel")


def test_an_exception_is_a_row_and_the_next_case_runs():
    messages = []
    cases = [Case("skipped", failing), Case("a", failing), Case("b", lambda: iter([{"us": 2}]))]
    worker.run_cases(cases, 1, messages.append)
    assert messages == [
        {"begin": 1, "case": "a", "seconds": 60},
        {"row": {"us": 1}},
        {"row": {"error": "ValueError: no such kernel"}},
        {"begin": 2, "case": "b", "seconds": 60},
        {"row": {"us": 2}},
        {"end": True},
    ]


def test_a_device_that_no_longer_computes_ends_the_process(monkeypatch):
    def broken(shape):
        raise RuntimeError("CUDA_ERROR_ILLEGAL_ADDRESS")

    monkeypatch.setattr(worker.jnp, "ones", broken)
    messages = []
    with pytest.raises(SystemExit) as ended:
        worker.run_cases([Case("a", failing), Case("b", failing)], 0, messages.append)
    assert ended.value.code == supervise.LOST_GPU
    assert messages[-1] == {"row": {"error": "ValueError: no such kernel"}}


def test_a_spent_budget_is_a_row(tmp_path, capsys):
    options = hardware.parse_options(["--dry-run", "--budget=0", f"--out={tmp_path}"])
    hardware.main(options)
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [row["stage"] for row in rows] == list(hardware.SHARES)
    assert all(row["cut"] == "the budget was spent" for row in rows)
    assert "| all | cut: the budget was spent |" in capsys.readouterr().out


def test_rows_of_a_case_share_a_line(capsys):
    rows = [
        {"stage": "operators", "at": 1.0, "case": "a", "forward us": 51.234},
        {"stage": "operators", "at": 2.0, "case": "a", "gradient us": 1234.5},
        {"stage": "operators", "at": 3.0, "case": "b", "error": "a | b\n" + "c" * 200},
    ]
    print_tables(rows)
    lines = capsys.readouterr().out.splitlines()
    assert lines[3] == "| case | forward us | gradient us | note |"
    assert lines[5] == "| a | 51.2 | 1,234 |  |"
    assert lines[6].startswith("| b |  |  | error: a / b ccc")
    assert len(lines[6]) < 150
