"""Every test sees 8 virtual CPU devices and strict rank promotion.

Imports only what the tests of ops, layers and models have installed.
"""

import os

import jax
import numpy as np
import pytest
from flax import nnx

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Compilation takes most of the time; `optimized` is for tests of what users compile.
jax.config.update("jax_disable_most_optimizations", True)
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # in the processes that tests start
jax.config.update("jax_default_matmul_precision", "highest")

if jax.__version_info__ < (0, 11):
    # Flax asks traced RNG counters for their sharding; before answering no, these versions of JAX
    # print the program traced so far into an error message, a quarter of a model's tracing time.
    from jax._src.interpreters.partial_eval import DynamicJaxprTracer

    DynamicJaxprTracer._origin_msg = lambda tracer: ""
    # Their older emitters of loops compile in half the time; newer versions do not have them.
    emitters = "--xla_cpu_use_fusion_emitters=false"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {emitters}"


# Files that take minutes: started first, so that no worker waits for the last of them.
LONG = (
    "test_loop.py",
    "test_idioms.py",
    "test_notebook.py",
    "test_hardware.py",
    "test_documents.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts long files first; the order within a file stays."""
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def tabulate():
    """`nnx.tabulate` of what is traced alone.

    It leaves inherited methods on classes, which `nnx.capture` wraps without end: they are removed.
    """

    def below(cls):
        return {cls}.union(*map(below, cls.__subclasses__()))

    def draw(module, *inputs):
        tables = []
        options = dict(console_kwargs=dict(width=200, force_terminal=False))
        jax.eval_shape(lambda *x: tables.append(nnx.tabulate(module, *x, **options)), *inputs)
        return tables[0]

    before = {cls: set(vars(cls)) for cls in below(nnx.Pytree)}
    yield draw
    for cls, names in before.items():
        for name in set(vars(cls)) - names:
            delattr(cls, name)


@pytest.fixture(scope="session")
def emitters():
    """The `compiler_options` of users, for products of bfloat16 that the older emitters lack."""
    return {"xla_cpu_use_fusion_emitters": True} if jax.__version_info__ < (0, 11) else {}


@pytest.fixture(scope="module")
def optimized():
    """Compiles the tests of a module with all optimizations, as users do (but for the emitters)."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(scope="session")
def shared_dir(tmp_path_factory):
    """A folder that all workers of this session share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def data_dir(shared_dir):
    """The folder where tfds keeps prepared data."""
    return str(shared_dir / "tfds")


@pytest.fixture
def config(data_dir):
    """The config of a run that takes seconds."""
    from tests.training import tiny

    config = tiny.get_config()
    config.dataset.data_dir = data_dir
    return config


@pytest.fixture(scope="session")
def trained_run(shared_dir, data_dir):
    """Config and workdir of a finished run, which the workers share."""
    import filelock

    from dwconv_jax.training import loop
    from tests.training import tiny

    config = tiny.get_config()
    config.dataset.data_dir = data_dir
    workdir, finished = shared_dir / "trained", shared_dir / "trained.finished"
    with filelock.FileLock(shared_dir / "trained.lock"):
        if not finished.exists():
            loop.train(config, str(workdir))
            finished.touch()
    return config, workdir
