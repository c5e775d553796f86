"""What is read from compiled programs: by hand on small ones, and against XLA's own count."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from dwconv_jax.aot.collectives import Collective, collectives
from dwconv_jax.aot.hlo import Program, array_bytes, main_memory_bytes
from dwconv_jax.aot.traffic import memory_traffic
from dwconv_jax.training.mesh import make_mesh


def compiled(function, *arguments, **options):
    return jax.jit(function, **options).lower(*arguments).compile()


def test_bytes_of_shapes():
    assert array_bytes("bf16[2,3]{1,0}") == [12]
    assert array_bytes("(f32[4]{0:T(128)}, (s4[3], pred[]), token[])") == [16, 2, 1, 0]
    assert main_memory_bytes("(f32[4]{0:T(128)S(1)}, f8e4m3fn[5]{0})") == [0, 5]


def test_text_that_is_no_program():
    with pytest.raises(ValueError, match="no HLO program"):
        Program("hello")


def test_traffic_is_what_xla_counts():
    """Where there are neither loops nor slices, which the two treat differently."""

    def function(x, w):
        return jnp.tanh(x @ w).sum(0), x.T * 2

    program = compiled(function, jnp.ones((64, 32)), jnp.ones((32, 16)))
    expected = program.cost_analysis()["bytes accessed"]
    assert memory_traffic(Program(program.as_text())) == pytest.approx(expected, rel=0.02)


def test_loops_count_as_often_as_they_run():
    def function(x):
        return jax.lax.fori_loop(0, 10, lambda i, y: jnp.sin(y @ y), x)

    traffic = memory_traffic(Program(compiled(function, jnp.ones((64, 64))).as_text()))
    once = memory_traffic(Program(compiled(lambda x: jnp.sin(x @ x), jnp.ones((64, 64))).as_text()))
    assert traffic == pytest.approx(10 * once, rel=0.1)


def test_of_a_slice_only_the_slice_counts():
    def function(x, i):
        return jax.lax.dynamic_update_index_in_dim(x, jnp.sin(x[i]), i + 1, 0)

    program = compiled(function, jnp.ones((1000, 256)), 3, donate_argnums=0)
    assert memory_traffic(Program(program.as_text())) < 20 * 256 * 4


def shard(mesh, shape, *spec):
    return jax.ShapeDtypeStruct(
        shape, jnp.float32, sharding=NamedSharding(mesh, PartitionSpec(*spec))
    )


def test_collectives_of_a_sharded_product():
    mesh = make_mesh({"data": 2, "fsdp": 4})
    x, w = shard(mesh, (16, 32), ("data", "fsdp")), shard(mesh, (32, 64), None, "fsdp")

    def function(x, w):
        w = jax.lax.with_sharding_constraint(w, NamedSharding(mesh, PartitionSpec()))
        return (x @ w).sum(0)

    program = compiled(function, x, w, out_shardings=NamedSharding(mesh, PartitionSpec()))
    found = {c.kind: c for c in collectives(Program(program.as_text()), 8)}
    assert found["all-gather"] == Collective("all-gather", 4, 1, 32 * 64 * 4)
    assert found["all-gather"].sent == 32 * 64 * 4 * 3 / 4
    assert found["all-reduce"] == Collective("all-reduce", 8, 1, 64 * 4)
    assert found["all-reduce"].sent == 2 * 64 * 4 * 7 / 8


PIECES = """\
HloModule step

%piece (p: bf16[8,4]) -> bf16[32,4] {
  %p = bf16[8,4]{1,0} parameter(0)
  ROOT %all-gather.1 = bf16[32,4]{1,0} all-gather(%p), channel_id=7, GROUPS, dimensions={0}
}

ENTRY %main (x: bf16[8,4]) -> bf16[32,4] {
  %x = bf16[8,4]{1,0} parameter(0)
  %f = bf16[32,4]{1,0} fusion(%x), kind=kCustom, calls=%piece
  ROOT %all-gather.2 = bf16[32,4]{1,0} all-gather(%x), channel_id=7, GROUPS, dimensions={0}
}
"""


@pytest.mark.parametrize(
    "groups",
    [
        "replica_groups={{0,1,2,3},{4,5,6,7}}",
        "replica_groups=[2,4]<=[8]",
        "replica_groups=mesh['axis_0'=2,'axis_1'=4] {'axis_1'}",
        "replica_groups=mesh['a'=1,'b'=4,'c'=2], device_ids=([2,4]T(1,0)) {'b'}",
        "replica_groups=mesh['axis_0'=8] {'axis_0':(2)4}",
    ],
)
def test_a_collective_in_pieces_counts_once(groups):
    (found,) = collectives(Program(PIECES.replace("GROUPS", groups)), 8)
    assert found == Collective("all-gather", 4, 1, 32 * 4 * 2)


STARTED = """
HloModule started

ENTRY %main () -> f32[1024,256] {
  %x = f32[1024,256]{1,0:T(8,128)} parameter(0)
  %part = ((f32[1024,256]{1,0:T(8,128)}), f32[256,256]{1,0:T(8,128)S(1)}, s32[]{:S(2)}) slice-start(%x), slice={[0:256], [0:256]}
  %part_done = f32[256,256]{1,0:T(8,128)S(1)} slice-done(%part)
  %whole = (f32[1024,256]{1,0:T(8,128)S(1)}, f32[1024,256]{1,0:T(8,128)}, u32[]{:S(2)}) copy-start(%x)
  %whole_done = f32[1024,256]{1,0:T(8,128)S(1)} copy-done(%whole)
  %back = (f32[1024,256]{1,0:T(8,128)}, f32[1024,256]{1,0:T(8,128)S(1)}, u32[]{:S(2)}) copy-start(%whole_done)
  ROOT %y = f32[1024,256]{1,0:T(8,128)} copy-done(%back)
}
"""  # noqa: E501


def test_copies_between_memories_move_their_arrays_once():
    """A quarter and the whole into on-chip memory, and the whole back."""
    assert memory_traffic(Program(STARTED)) == 1024 * 256 * 4 * (1 / 4 + 1 + 1)
