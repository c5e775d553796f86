"""What is freed is used again; in a process of its own, because the setting stays."""

import platform
import subprocess
import sys

import pytest

_PROGRAM = """
import resource

from dwconv_jax.training.host_memory import reuse_host_memory


def pages_of_another_block():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytes([1]) * 2**27
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


pages_of_another_block()
by_default = pages_of_another_block()
reuse_host_memory()
pages_of_another_block()
print(by_default, pages_of_another_block())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_the_system_clears_a_large_block_only_once() -> None:
    output = subprocess.check_output([sys.executable, "-c", _PROGRAM], text=True)
    by_default, reused = map(int, output.split())
    assert reused < by_default / 4
