"""CIFAR-10 (tfds): 50,000 photographs of 32x32 pixels to train, 10,000 to test, ten classes.

    dwconv-jax train --config=cifar10:dynamic_dwnet --workdir=runs/cifar10

Variants: dwnet, dynamic_dwnet, i_dynamic_dwnet, swin. Meant for one GPU or TPU core; the authors of
this project have not run it to the end, so no accuracy is stated. `tfds build cifar10` downloads
the 163 MB of data.
"""

from dwconv_jax.ops.checks import check_choice
from dwconv_jax.training import base_config

VARIANTS = {
    "dwnet": dict(),
    "dynamic_dwnet": dict(),
    "i_dynamic_dwnet": dict(channels_per_group=(4, 8, 16)),
    "swin": dict(num_heads=(4, 8, 16)),
}


def get_config(variant: str = "dynamic_dwnet"):
    check_choice("variant of configs/cifar10.py", variant, tuple(VARIANTS))
    config = base_config()
    config.model.update(
        name=f"{variant}_tiny",
        patch_size=2,
        embed_dim=64,
        depths=(2, 4, 2),
        window_size=7,
        drop_path_rate=0.1,
    )
    config.model.update(VARIANTS[variant])
    config.dataset.update(
        name="cifar10",
        image_size=32,
        mean=(0.491, 0.482, 0.447),
        std=(0.247, 0.243, 0.262),
        augment="pad_crop_flip",
        shuffle_buffer=50_000,
    )
    config.num_epochs = 100
    config.batch_size = 128
    config.eval_batch_size = 500
    config.optimizer.update(
        learning_rate=1e-3, warmup_learning_rate=1e-6, min_learning_rate=1e-5, warmup_epochs=5.0
    )
    config.label_smoothing = 0.1
    config.log_every_steps = 100
    config.eval_every_epochs = 5
    config.checkpoint_every_epochs = 5
    return config
