"""ImageNet-1K at the size of each network, by the recipe of the paper (300 epochs).

    dwconv-jax train --config=imagenet:dwnet_tiny --workdir=runs/dwnet_tiny

Variants: every name of `dwconv_jax.models.VARIANTS`. Top-1 accuracy to expect on the 50,000
validation images:

    dwnet_tiny          81.2    dwnet_base          83.2    the authors' README
    dynamic_dwnet_tiny  81.8    dynamic_dwnet_base  83.2
    swin_tiny           81.2    swin_base           83.5    Swin's README

The other networks were published with other recipes; docs/family.md has their numbers. Meant for 8
or more accelerators: the authors of the paper used 8 GPUs for the tiny models and 16 for the base
models, 1,024 images per step. The authors of this project have not run it.

The data is tfds's `imagenet2012`, which `tfds build imagenet2012` prepares from the two archives of
image-net.org, or a folder of class folders, `<root>/train/n01440764/*.JPEG` and `<root>/val/...`:

    --config.dataset.name=folder --config.dataset.data_dir=ROOT --config.dataset.eval_split=val
"""

import math

from dwconv_jax.models import VARIANTS
from dwconv_jax.ops.checks import check_choice
from dwconv_jax.training import base_config

# Stochastic depth of networks up to so many multiply-adds, in G: tiny, small and base ones.
DROP_PATH_RATES = {6: 0.2, 10: 0.3, math.inf: 0.5}


def get_config(variant: str = "dwnet_tiny"):
    check_choice("variant of configs/imagenet.py", variant, tuple(VARIANTS))
    config = base_config()
    known = VARIANTS[variant]
    drop_path_rate = next(rate for gmacs, rate in DROP_PATH_RATES.items() if known.gmacs <= gmacs)
    config.model.update(name=variant, drop_path_rate=drop_path_rate, dtype="bfloat16")
    # One GPU of the authors saw this many images; batch norms and mixtures are over them.
    images_of_a_gpu = 64 if drop_path_rate == 0.5 else 128
    if "dwnet" in variant:
        config.model.batch_norm_group_size = images_of_a_gpu
    config.mix.update(
        mixup_alpha=0.8, cutmix_alpha=1.0, cutmix_probability=0.5, group_size=images_of_a_gpu
    )
    config.dataset.update(
        name="imagenet2012",
        train_split="train",
        eval_split="validation",
        num_train=1_281_167,
        image_size=known.image_size,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        augment="inception",
        rand_augment_magnitude=9.0,
        rand_augment_std=0.5,
        color_jitter=0.4,  # as the authors set it; RandAugment replaces it
        random_erasing=0.25,
        eval_resize=known.image_size * 256 // 224,
        shuffle_buffer=100_000,
        max_unreadable=10,
    )
    config.num_epochs = 300
    config.batch_size = 1024
    config.eval_batch_size = 1024
    config.optimizer.update(
        learning_rate=5e-4,
        warmup_learning_rate=5e-7,
        min_learning_rate=5e-6,
        reference_batch_size=512,
        warmup_epochs=20.0,
        weight_decay=0.05,
        b1=0.9,
        b2=0.999,
        clip_norm=5.0,
    )
    config.label_smoothing = 0.1
    config.log_every_steps = 100
    config.eval_every_steps = 1251
    config.checkpoint_every_steps = 1251
    return config
