"""Times our side and a peer in alternation; discards disturbed pairs, reports medians."""

import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from benchmarks.load import ForeignLoad
from benchmarks.peers.peer import TorchPeer

Timer = Callable[[int], float]  # repeats -> mean seconds of a call

_PAIR_SECONDS = 0.1  # of each side: long for the 10 ms ticks that `ForeignLoad` reads
_ATTEMPTS = 4  # pairs to try for each pair wanted
_FEWEST_PAIRS = 3


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Milliseconds of a call, and the peer's time over ours with the quartiles of the pairs."""

    ours_ms: float
    peer_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float
    pairs: int
    discarded: int

    @property
    def is_noisy(self) -> bool:
        """Whether too few pairs were undisturbed, so that the numbers include disturbed ones."""
        return self.pairs < _FEWEST_PAIRS


def compile_function(
    function: Callable[..., Any], *arguments: Any, donate: Sequence[int] = ()
) -> tuple[Any, float]:
    """The compiled function, and the seconds it took to trace and compile."""
    start = time.perf_counter()
    compiled = jax.jit(function, donate_argnums=tuple(donate)).lower(*arguments).compile()
    return compiled, time.perf_counter() - start


def timer(call: Callable[[], Any]) -> Timer:
    """Times a call that returns arrays."""

    def seconds(repeats: int) -> float:
        start = time.perf_counter()
        for _ in range(repeats):
            jax.block_until_ready(call())
        return (time.perf_counter() - start) / repeats

    return seconds


def compare(ours: Timer, peer: Timer, peer_process: TorchPeer | None, pairs: int) -> Comparison:
    """Alternates both sides until `pairs` pairs are undisturbed, or attempts run out."""
    repeats = [_repeats(side) for side in (ours, peer)]
    load = ForeignLoad([os.getpid()] + ([peer_process.pid] if peer_process else []))
    clean: list[list[float]] = []
    disturbed: list[list[float]] = []
    while len(clean) < pairs and len(clean) + len(disturbed) < _ATTEMPTS * pairs:
        load.start()
        pair = []
        for side, count in zip((ours, peer), repeats, strict=True):
            side(1)  # memory that the other side freed may be slow to get back (README)
            pair.append(side(count))
            time.sleep(0.003)  # lets the other side's spinning threads go to sleep
        (disturbed if load.was_seen() else clean).append(pair)
    enough = len(clean) >= _FEWEST_PAIRS
    seconds = np.array(clean if enough else clean + disturbed)
    ratios = seconds[:, 1] / seconds[:, 0]
    low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
    ours_ms, peer_ms = 1e3 * np.median(seconds, axis=0)
    return Comparison(ours_ms, peer_ms, middle, low, high, len(clean), len(disturbed))


def _repeats(side: Timer) -> int:
    side(1)
    return max(1, min(200, int(_PAIR_SECONDS / max(side(1), 1e-6))))
