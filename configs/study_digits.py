"""The paper's questions on handwritten digits, in minutes on two cores.

    python -m dwconv_jax.study --config=configs/study_digits.py --workdir=runs/study --jobs=2

Small models on 8x8 pixels show how a study runs and reads. The results say nothing about ImageNet.
"""

from dwconv_jax.configs import digits
from dwconv_jax.study import attention_grid, paper_grid, study_config


def get_config():
    base = digits.get_config()
    # Two blocks in the first stage, because only every second block shifts Swin's windows.
    base.model.update(embed_dim=16, depths=(2, 1), window_size=5, drop_path_rate=0.0)
    base.num_epochs = 12
    base.optimizer.warmup_epochs = 1.0
    base.log_every_steps = 22
    base.eval_every_steps = base.checkpoint_every_steps = 264
    base.keep_checkpoints = 1
    cells, questions = paper_grid(kernel_sizes=(3, 7), window_size=4, heads=(4, 8), image_size=8)
    more_cells, more_questions = attention_grid(window_size=4, heads=(4, 8))
    return study_config(
        base, cells | more_cells, questions | more_questions, seeds=(0, 1, 2), paper=True
    )
