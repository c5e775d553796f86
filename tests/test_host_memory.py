"""What is freed is used again; in a process of its own, because the setting stays."""

import os
import platform
import subprocess
import sys

import pytest

_PROGRAM = """
import resource
import sys

import jax
import jax.numpy as jnp

from dwconv_jax.host_memory import reuse_host_memory


def pages_of_another_block():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    make_block()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


if sys.argv[2] == "reuse":
    reuse_host_memory()
if sys.argv[1] == "python":
    make_block = lambda: bytes([1]) * 2**27
else:
    x = jnp.ones((2**13, 2**3))
    sum_of_pairs = jax.jit(lambda x: jnp.sin(x @ x.T).sum()).lower(x).compile()
    assert sum_of_pairs.memory_analysis().temp_size_in_bytes >= 2**27
    make_block = lambda: sum_of_pairs(x).block_until_ready()
for _ in range(8):  # a small allocation may take the first one's place
    make_block()
print(pages_of_another_block())
"""


@pytest.mark.parametrize("who", ["python", "xla"])
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_the_system_clears_a_large_block_only_once(who: str) -> None:
    def pages(how: str) -> int:
        command = [sys.executable, "-c", _PROGRAM, who, how]
        environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
        return int(subprocess.check_output(command, env=environment, text=True))

    assert pages("reuse") < pages("default") / 4
