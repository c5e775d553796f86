"""Memory of the accelerators, as their allocators report it."""

import jax

_GIB = 2**30


def peak_device_memory_gib() -> float | None:
    """The highest memory use of this process's devices so far; None if none reports it (CPU)."""
    stats = [device.memory_stats() for device in jax.local_devices()]
    peaks = [s["peak_bytes_in_use"] for s in stats if s and "peak_bytes_in_use" in s]
    return max(peaks) / _GIB if peaks else None
