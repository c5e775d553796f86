"""What the register report reads, without an assembler."""

from benchmarks.gpu.registers import Resources, parse
from dwconv_jax.ops.lowerings.gpu.plan import Plan

REPORT = """\
ptxas info    : Function properties for toeplitz
    0 bytes stack frame, 12 bytes spill stores, 16 bytes spill loads
ptxas info    : Used 106 registers, used 1 barriers, 128 bytes smem
"""


def test_a_report_is_read_and_blocks_counted():
    plan = Plan("toeplitz", (), (512, 6, 1), (256, 1, 1), shared_bytes=57_728)
    # 256 threads of 112 registers fit twice into 65,536, and 3 times 58,880 bytes into 227 KiB.
    assert parse(REPORT, plan) == Resources(106, 12, 57_856, 2)
    small = Plan("toeplitz", (), (512, 6, 1), (32, 1, 1))
    assert parse(REPORT, small).blocks == 18
