"""A study of seconds: `--config=tests/study/small.py`."""

from dwconv_jax.study import study_config
from tests.training import tiny


def get_config():
    base = tiny.get_config()
    base.num_epochs = 1
    base.optimizer.warmup_epochs = 0.5
    base.log_every_steps = 1
    cells = {"static": dict(name="dwnet_tiny"), "pooled": dict(name="dynamic_dwnet_tiny")}
    questions = {"Where do the weights come from?": ["static", "pooled"]}
    return study_config(base, cells, questions, seeds=(0,))
