"""Every test sees 8 virtual CPU devices and strict rank promotion."""

import os

import filelock
import jax
import numpy as np
import pytest
from jax._src.interpreters.partial_eval import DynamicJaxprTracer

from tests.training import tiny

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Compilation is what the time goes to; `optimized` is for tests of what users compile.
jax.config.update("jax_disable_most_optimizations", True)
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # in the processes that tests start
# Flax asks the counters of its Rngs for a sharding; of a traced one JAX then prints the program so
# far into a message that nobody reads, which is most of the time that it takes to trace a model.
DynamicJaxprTracer._origin_msg = lambda tracer: ""
jax.config.update("jax_default_matmul_precision", "highest")


@pytest.fixture(scope="module")
def optimized():
    """The tests of a module compile with all optimisations, as users do."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(scope="session")
def shared_dir(tmp_path_factory, worker_id):
    """A folder of all workers of this session."""
    base = tmp_path_factory.getbasetemp()
    return base if worker_id == "master" else base.parent


@pytest.fixture(scope="session")
def data_dir(shared_dir):
    """Where tfds keeps what it prepares."""
    return str(shared_dir / "tfds")


@pytest.fixture
def config(data_dir):
    """A run of seconds."""
    config = tiny.get_config()
    config.dataset.data_dir = data_dir
    return config


@pytest.fixture(scope="session")
def trained_run(shared_dir, data_dir):
    """The config and the workdir of a run that has finished; the workers make it once."""
    from dwconv_jax.training import loop  # TensorFlow comes with it

    config = tiny.get_config()
    config.dataset.data_dir = data_dir
    workdir, finished = shared_dir / "trained", shared_dir / "trained.finished"
    with filelock.FileLock(shared_dir / "trained.lock"):
        if not finished.exists():
            loop.train(config, str(workdir))
            finished.touch()
    return config, workdir


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
