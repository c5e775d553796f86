"""The paper's questions on ImageNet-1K, at the paper's size.

    python -m dwconv_jax.study --config=configs/study_imagenet.py --workdir=DIR --cell=$I

One run of configs/imagenet.py for each cell, `--cell=0` to `--cell=17`. Meant for a cluster with 8
or more accelerators per cell. The authors of this project have not run it.
"""

from dwconv_jax.configs import imagenet
from dwconv_jax.study import paper_grid, study_config


def get_config():
    base = imagenet.get_config("dwnet_tiny")
    cells, questions = paper_grid(
        kernel_sizes=(3, 5, 9, 11, 13), window_size=7, heads=(3, 6, 12, 24), image_size=224
    )
    return study_config(base, cells, questions, seeds=(0,), paper=True)
