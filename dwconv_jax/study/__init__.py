"""The paper's study as one command: a declared grid of runs, one table, one page of plots.

Nothing heavy is imported here, so that config files and `--help` do not wait for TensorFlow.
"""

from dwconv_jax.study.grid import attention_grid, family_grid, paper_grid, study_config

__all__ = ["attention_grid", "family_grid", "paper_grid", "study_config"]
