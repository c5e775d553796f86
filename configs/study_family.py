"""The mixers of the published networks in one block, under one budget, on Fashion-MNIST.

    python -m dwconv_jax.study --config=configs/study_family.py --workdir=runs/family --jobs=2

Every cell is DWNet's block with another locally connected layer: ConvNeXt's, Swin's, MaxViT's grid,
NAT's and so on. One epoch ranks them by how fast they learn, not by how well they end;
`--config.base.num_epochs=5` trains them longer. The data is that of configs/fashion_mnist.py.
"""

from dwconv_jax.configs import fashion_mnist
from dwconv_jax.study import family_grid, study_config


def get_config():
    base = fashion_mnist.get_config("dwnet")
    base.model.update(embed_dim=16, depths=(2, 1), drop_path_rate=0.0)
    base.num_epochs = 1
    base.optimizer.warmup_epochs = 0.1
    base.log_every_steps = 117
    base.keep_checkpoints = 1
    # On maps of 14x14 and 7x7 a kernel of 7 can be dilated on the first alone.
    cells, questions = family_grid(window_size=7, heads=(4, 8), dilations=(2, 1), image_size=28)
    return study_config(base, cells, questions, seeds=(0, 1))
