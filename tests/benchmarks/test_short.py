"""The memory passes of the short convolution, as its benchmark counts them."""

import jax.numpy as jnp
import pytest

from benchmarks.cpu.short import memory_passes
from dwconv_jax.ops.lowerings.cpu import kernel as cpu_kernel

pytestmark = pytest.mark.usefixtures("optimized")

INPUTS = jnp.ones((2, 256, 128)), jnp.ones((4, 128)), jnp.ones(128)


def test_xla_reads_and_writes_once_forward():
    assert 2 <= memory_passes(INPUTS, train=False, lowering="XLA") < 2.2


@pytest.mark.skipif(not cpu_kernel.is_built(), reason="the kernel was not built")
def test_the_compiled_kernel_reads_and_writes_once_in_both_directions():
    forward, both = (memory_passes(INPUTS, train, "kernel") for train in (False, True))
    assert 2 <= forward < 2.2
    assert 3 <= both - forward < 3.3
