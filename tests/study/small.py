"""A study of seconds: `--config=tests/study/small.py`."""

from dwconv_jax.study import study_config
from tests.training import tiny


def get_config():
    cells = {"pooled": {}, "static": dict(name="dwnet_tiny")}
    questions = {"Where do the weights come from?": ["static", "pooled"]}
    return study_config(tiny.get_config(), cells, questions, seeds=(0,))
