"""Times PyTorch on a GPU: reads one case per line as JSON, answers with what it measured.

Its interpreter needs only PyTorch (and timm, for its models). The command line names the device.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch_gpu_cases

_LONGEST_ERROR = 1000  # characters
_REPEATS, _SECONDS = 5, 0.03  # measurements, and how long each takes at least


def measure(device: str, case: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The seconds of a call, those until the first one was over, and the peak of memory."""
    torch.set_default_dtype(torch.bfloat16)
    torch.set_default_device(device)
    began = time.perf_counter()
    function, calls = torch_gpu_cases.CASES[case](**arguments)
    torch.set_default_device(None)  # a default slows down every call
    on_gpu = device == "cuda"
    synchronize = torch.cuda.synchronize if on_gpu else (lambda: None)

    def run() -> Any:
        return [function(*call) for call in calls]

    def seconds(count: int) -> float:
        synchronize()
        began = time.perf_counter()
        for _ in range(count):
            run()
        synchronize()
        return (time.perf_counter() - began) / count

    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    seconds(1)
    first = time.perf_counter() - began
    seconds(2)
    # Otherwise kernels of 10 us would wait for Python.
    captured = _capture(run) if on_gpu and case != "model" else None
    run = captured or run
    count = max(1, min(200, int(_SECONDS / seconds(1))))
    times = [seconds(count) for _ in range(_REPEATS if on_gpu else 1)]
    return {
        "s": statistics.median(times) / len(calls),
        "first s": first,
        "peak": torch.cuda.max_memory_allocated() if on_gpu else 0,
        "captured": captured is not None,
    }


def _capture(run: Callable[[], Any]) -> Callable[[], Any] | None:
    """The calls as one CUDA graph; None where they cannot be captured."""
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            kept = run()
    except RuntimeError:
        return None

    def replay() -> Any:
        graph.replay()
        return kept

    return replay


def serve(device: str) -> None:
    """Answers until the input ends; a case that fails has its "error" as the answer."""
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # prints go to stderr, away from the protocol
    print(json.dumps({"version": torch.__version__}), file=answers, flush=True)
    for line in sys.stdin:
        try:
            answer: dict[str, Any] = measure(device, **json.loads(line))
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"[:_LONGEST_ERROR]}
        if device == "cuda":
            torch.cuda.empty_cache()  # the other side needs memory too
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    serve(sys.argv[1])
