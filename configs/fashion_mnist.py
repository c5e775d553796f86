"""Fashion-MNIST: 60,000 garments of 28x28 pixels to train, 10,000 to test, ten classes.

    dwconv-jax train --config=fashion_mnist:dwnet --workdir=runs/fashion_dwnet

Variants: dwnet, dynamic_dwnet, i_dynamic_dwnet, swin, all of the same width. Swin has one more
block in its first stage, because only every second block shifts its windows. `tfds build
fashion_mnist` downloads the data; `python -m dwconv_jax.data.builders.fashion_mnist` prepares it
from Debian's package instead.
"""

from dwconv_jax.ops.checks import check_choice
from dwconv_jax.training import base_config

VARIANTS = {
    "dwnet": dict(),
    "dynamic_dwnet": dict(),
    "i_dynamic_dwnet": dict(channels_per_group=(3, 6, 12)),
    # A window covers the whole map of later stages, so only the first stage has shifted ones.
    "swin": dict(num_heads=(3, 6, 12), depths=(2, 1, 1)),
}


def get_config(variant: str = "dwnet"):
    check_choice("variant of configs/fashion_mnist.py", variant, tuple(VARIANTS))
    config = base_config()
    config.model.update(
        name=f"{variant}_tiny",
        patch_size=2,
        embed_dim=24,
        depths=(1, 1, 1),
        window_size=7,
        drop_path_rate=0.1,
    )
    config.model.update(VARIANTS[variant])
    config.dataset.update(
        name="fashion_mnist",
        image_size=28,
        mean=(0.286,),
        std=(0.353,),
        augment="pad_crop_flip",
        shuffle_buffer=60_000,
    )
    config.num_epochs = 5
    config.batch_size = 128
    config.eval_batch_size = 500
    config.optimizer.update(
        learning_rate=2e-3, warmup_learning_rate=2e-6, min_learning_rate=2e-5, warmup_epochs=1.0
    )
    config.label_smoothing = 0.1
    config.log_every_steps = 117
    config.eval_every_steps = 468
    config.checkpoint_every_steps = 468
    return config
