"""The paper's questions on Fashion-MNIST, every garment seen once, in less than two hours.

    python -m dwconv_jax.study --config=configs/study_fashion_mnist.py --workdir=runs/study --jobs=2

The time is for two CPU cores. The data are those of configs/fashion_mnist.py. A single epoch ranks
what learns fast, not what ends best: `--config.base.num_epochs=5` gives the cells their time.
"""

from configs import fashion_mnist
from dwconv_jax.study import paper_grid, study_config


def get_config():
    base = fashion_mnist.get_config("dwnet")
    base.model.update(embed_dim=16, depths=(2, 2), drop_path_rate=0.0)
    base.num_epochs = 1
    base.optimizer.warmup_epochs = 0.2
    base.log_every_steps = 39
    base.keep_checkpoints = 1
    cells, questions = paper_grid(
        kernel_sizes=(3, 9, 13), window_size=7, heads=(4, 8), image_size=28
    )
    return study_config(base, cells, questions, seeds=(0, 1))
