"""JPEG to training batches, against PyTorch's DataLoader: `python -m benchmarks.cpu.input`."""

import argparse
import math
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ml_collections import ConfigDict

from benchmarks.cpu.photographs import make_folder
from benchmarks.peers.peer import TorchPeer
from benchmarks.session import parser, session
from benchmarks.timing import Comparison, Timer

SIZE, BATCH = 224, 64
PIPELINES = {"crop and flip": False, "full recipe": True}
# Batches before the clock starts (more than either side prefetches), and timed ones.
_WARM_UP, _TIMED = 8, 24


def dataset_config(folder: Path, full: bool) -> ConfigDict:
    """The dataset of configs/imagenet.py from a folder; unless `full`, only crop and flip."""
    from configs import imagenet

    dataset = imagenet.get_config().dataset
    dataset.update(name="folder", data_dir=str(folder), train_split="train", eval_split="val")
    if not full:
        dataset.update(rand_augment_magnitude=None, color_jitter=0.0, random_erasing=0.0)
    return dataset


def ours(folder: Path, full: bool) -> Timer:
    """Times batches of a new iterator, and closes it to stop its prefetching."""
    from dwconv_jax import data

    dataset = data.load_classification(dataset_config(folder, full))

    def seconds(repeats: int) -> float:
        batches = dataset.train_batches(BATCH, seed=0)
        _take(batches, _WARM_UP)
        start = time.perf_counter()
        _take(batches, repeats * _TIMED)
        elapsed = time.perf_counter() - start
        batches.close()
        return elapsed / (repeats * _TIMED)

    return seconds


def theirs(torch: TorchPeer, folder: Path, full: bool, cores: int) -> Timer:
    """Times batches of a DataLoader with one worker per core."""
    details = dict(folder=str(folder), size=SIZE, batch=BATCH, workers=cores, full=full)

    def seconds(repeats: int) -> float:
        torch.seconds("input_pipeline", details, _WARM_UP)
        return torch.seconds("input_pipeline", details, repeats * _TIMED)

    return seconds


def _take(batches: Iterator[object], count: int) -> None:
    for _ in range(count):
        next(batches)


def state_meaning(times: Comparison, cores: int, appetite: float) -> None:
    """Prints images per second and core, and how many cores feed one accelerator."""
    ours, peer = (BATCH / (1e-3 * ms) / cores for ms in (times.ours_ms, times.peer_ms))
    print(
        f"  {ours:.0f} images per second and core, the peer {peer:.0f}; an accelerator that takes "
        f"{appetite:.0f} per second needs {math.ceil(appetite / ours)} such cores, with the peer "
        f"{math.ceil(appetite / peer)}",
        flush=True,
    )


def main(options: argparse.Namespace) -> None:
    """Measures what `--only` selects."""
    title = f"Input, JPEG files to {SIZE}x{SIZE}, batch {BATCH}, {options.cores} core(s)"
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    with tempfile.TemporaryDirectory() as root, session(title, options) as run:
        make_folder(Path(root), options.files)
        for case, full in PIPELINES.items():
            if run.torch is not None and case.startswith(options.only):
                peer = theirs(run.torch, Path(root), full, options.cores)
                times = run.measure_against(
                    (case, "a batch", "tf.data"), ours(Path(root), full), peer
                )
                state_meaning(times, options.cores, options.appetite)


def _options() -> argparse.Namespace:
    options = parser(__doc__, "input")
    options.add_argument("--cores", type=int, default=os.cpu_count(), help="cores for either side")
    options.add_argument("--files", type=int, default=512, help="photographs in the folder")
    options.add_argument(
        "--appetite",
        type=float,
        default=1000,
        help="images per second that an accelerator takes: an assumption, not a measurement",
    )
    return options.parse_args()


if __name__ == "__main__":
    main(_options())
