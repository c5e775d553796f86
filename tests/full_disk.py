"""A disk that is full, for the files that this process writes."""

import contextlib
import resource
from collections.abc import Iterator


@contextlib.contextmanager
def full_disk(largest: int) -> Iterator[None]:
    """No file becomes larger than this many bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
