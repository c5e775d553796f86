"""Traces of chosen steps."""

import jax.numpy as jnp
import pytest
from etils import epath

from dwconv_jax.errors import UserError
from dwconv_jax.training import base_config
from dwconv_jax.training.config import validate
from dwconv_jax.training.profiler import Profiler


def test_a_trace_of_two_steps(tmp_path):
    with Profiler(epath.Path(tmp_path), (2, 3)) as profiler:
        for step in range(1, 5):
            profiler.before(step)
            outputs = jnp.ones(3) + step
            profiler.after(step, outputs)
            assert bool(list(tmp_path.glob("plugins/profile/*/*.xplane.pb"))) == (step >= 3)


def test_no_trace_by_default(tmp_path):
    with Profiler(epath.Path(tmp_path), ()) as profiler:
        profiler.before(1)
        profiler.after(1, None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("steps", [(3,), (0, 3), (4, 3)])
def test_illegal_steps(steps):
    config = base_config()
    config.profile_steps = steps
    with pytest.raises(UserError, match=r"config.profile_steps=.* must be"):
        validate(config)
