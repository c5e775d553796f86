"""Copies batches to the devices before they are needed."""

import collections
from collections.abc import Iterable, Iterator
from typing import Any

from jax.sharding import Mesh

from dwconv_jax.data.dataset import Batch
from dwconv_jax.training.mesh import to_devices

_AHEAD = 2


def prefetch(batches: Iterable[Batch], mesh: Mesh) -> Iterator[tuple[Batch, dict[str, Any]]]:
    """Yields batches and their copies on the devices, keeping two copies ahead.

    Copies are asynchronous, so that they overlap with the step that is running.

    Args:
      batches: this process's share of global batches.
      mesh: the devices that share a batch.

    Yields:
      Each batch on the host, and the global batch on the devices; see `to_devices`.
    """
    waiting: collections.deque[tuple[Batch, dict[str, Any]]] = collections.deque()
    for batch in batches:
        waiting.append((batch, to_devices(batch, mesh)))
        if len(waiting) > _AHEAD:
            yield waiting.popleft()
    yield from waiting
