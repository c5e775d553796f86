"""Batches come in order, two of them ahead on the devices."""

import jax
import numpy as np

from dwconv_jax.training.mesh import batch_sharding, make_mesh
from dwconv_jax.training.prefetch import prefetch


def test_batches_come_in_order_and_two_ahead():
    mesh, made = make_mesh({"data": 8, "fsdp": 1}), []

    def batches():
        for i in range(5):
            made.append(i)
            yield {"x": np.full(8, i)}

    for i, (batch, on_devices) in enumerate(prefetch(batches(), mesh)):
        assert len(made) == min(i + 3, 5)
        assert isinstance(on_devices["x"], jax.Array)
        assert on_devices["x"].sharding == batch_sharding(mesh)
        np.testing.assert_array_equal(on_devices["x"], batch["x"])
        assert batch["x"][0] == i
    assert i == 4
