"""Cycles out of a schedule as libtpu writes it, and bytes out of its HLO."""

import pytest

from benchmarks.tpu import schedule as tpu_schedule

# A pipelined loop over a grid of 4 steps runs 6 times and skips its work twice; the work is a
# loop of 10 steps, counted by twos up to 20: two bundles, its back edge and four delay slots.
BUNDLES = """
// LH: loop header
     0   :  { %1 = vsyncpa [#allocation1], 0 }
   0x1 LB: > { %s1 = sphi %s0, %s2 } /* Start region 7 */
   0x2   : > { %9 = sbr.rel (%p4_p0) target = $region36 }
iteration_bounds: (1, 4)
   0x3 LB: >> { %s8_s1 = sadd.s32 2, %s7_s1 } /* Start region 9 */
   0x4   : >> { %p5_p1 = scmp.ge.s32.totalorder %s8_s1, 20 /* loop exit test */ }
   0x5   : > { %10 = sbr.rel (!%p5_p1) target = $region9 }
   0x6   : >> { %v1 = vld [vmem:[%s1]] }
   0x7   :  {}
   0x8   : >> { %v2 = vld [vmem:[%s1]] }
   0x9   :  {} /* End region 9 */
   0xa PF: > { %s2_s3 = sadd.s32 1, %s1 } /* Start/End empty region 36 */
   0xb   : > { %p6_p2 = scmp.ge.s32.totalorder %s2_s3, 6 /* loop exit test */ }
   0xc   : > { %11 = sbr.rel (!%p6_p2) target = $region7 }
   0xd   :  {}
   0xe   :  {}
   0xf   :  {}
  0x10   :  {} /* End region 7 */
  0x11   :  { %2 = vsyncpa [#allocation1], 1 }
"""
PROFILE = """HLO: %kernel.1 = custom-call(%x)
 - VECTOR_ALU: (10/72) - 0.1
 - VECTOR_EUP: (0/36) - 0
"""


@pytest.fixture
def dump(tmp_path):
    (tmp_path / "123-kernel.1-71-final_bundles.txt").write_text(BUNDLES)
    (tmp_path / "123-TLP-74-final_bundles.txt").write_text(BUNDLES)
    (tmp_path / "123-kernel.1-70-schedule-analysis_final_bundles.txt").write_text(BUNDLES)
    (tmp_path / "123-TLP-74-hlo-static-bundle-profile.txt").write_text(PROFILE)
    return tmp_path


def test_bundles_count_as_often_as_their_loops_run(dump):
    found = tpu_schedule.kernels(dump)
    bundles, outer, inner = 18, 6 * (2 + 7), 4 * 10 * 7
    stalls = 36 / bundles
    assert found == {"kernel.1": tpu_schedule.Kernel((2 + outer + inner) * stalls, True)}


def test_what_some_steps_skip_counts_in_the_others_only(dump):
    """`pl.when(step < 1)` around the inner loop, where steps are the grid's last axis of 4."""
    path = dump / "123-kernel.1-71-final_bundles.txt"
    axis = "%s9_s9 = sphi %s0, %s2 /* phi copy :: iteration index, stage = 1 iter bound = 1 */"
    guard = "%p4_p0 = scmp.ge.s32.totalorder %s9_s9, 1"
    path.write_text(BUNDLES.replace("%s1 = sphi %s0, %s2 }", f"{axis}  ;;  {guard} }}"))
    bundles, outer, inner = 18, 6 * (2 + 7), 4 * 10 * 7 / 4
    stalls = 36 / bundles
    assert tpu_schedule.kernels(dump)["kernel.1"].cycles == (2 + outer + inner) * stalls


def test_unknown_trip_counts_are_admitted(dump):
    path = dump / "123-kernel.1-71-final_bundles.txt"
    path.write_text(BUNDLES.replace(", 20 /* loop exit test */", ", %s5 /* loop exit test */"))
    assert not tpu_schedule.kernels(dump)["kernel.1"].exact
