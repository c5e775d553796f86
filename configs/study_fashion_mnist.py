"""The paper's questions on Fashion-MNIST, in half an hour of two CPU cores.

    python -m dwconv_jax.study --config=configs/study_fashion_mnist.py --workdir=runs/study --jobs=2

Eight of the paper's cells, each with two seeds and less than one epoch. This ranks cells by how
fast they learn, not by how well they end; `--config.base.num_steps=2340` trains them for five
epochs. The data is that of configs/fashion_mnist.py.
"""

from dwconv_jax.configs import fashion_mnist
from dwconv_jax.study import paper_grid, study_config

CELLS = (
    "dw_static", "dw_pooled", "dw_centre", "dw_one_group", "dw_kernel_3",
    "dw_window_attention", "swin_static", "swin_attention",
)  # fmt: skip


def get_config():
    base = fashion_mnist.get_config("dwnet")
    # Two blocks in the first stage, because only every second block shifts Swin's windows.
    base.model.update(embed_dim=16, depths=(2, 1), drop_path_rate=0.0)
    base.num_steps = 300
    base.optimizer.warmup_epochs = 0.1
    base.log_every_steps = 50
    base.keep_checkpoints = 1
    cells, questions = paper_grid(kernel_sizes=(3,), window_size=7, heads=(4, 8), image_size=28)
    del questions["Does squeeze-excitation help?"]  # its cells are left out
    compared = {q: [name for name in names if name in CELLS] for q, names in questions.items()}
    return study_config(
        base,
        {name: cells[name] for name in CELLS},
        {question: names for question, names in compared.items() if len(names) > 1},
        seeds=(0, 1),
        paper=True,
    )
