"""Semantic segmentation of ADE20K (150 classes) with UPerNet, as the authors train it.

    dwconv-jax train --config=ade20k:dwnet_tiny --workdir=runs/ade20k_dwnet_tiny \
        --config.dataset.data_dir=ADEChallengeData2016 --config.init_from=dwnet_tiny_224.pth

Variants: dwnet, dynamic_dwnet, i_dynamic_dwnet and swin, each _tiny and _base. `data_dir` holds
SceneParsing's images/{training,validation} and annotations/{training,validation}. For the authors'
layout, {train,val}/image and {train,val}/label, add --config.dataset.train_split=train and
--config.dataset.eval_split=val. (--config.dataset.name=scene_parse150 reads tfds's version, splits
train and test; but the archive that tfds downloads holds the annotations of the instance challenge,
not the 150 classes.)

Meant for 8 or more accelerators; the authors of this project have not run it. The published mIoU
(authors' README, single scale) is 45.5 for dwnet_tiny, 48.3 for dwnet_base, 45.7 for
dynamic_dwnet_tiny and 48.0 for dynamic_dwnet_base. Evaluation here rounds resized sides to
multiples of 32, which compiles about a hundred shapes; --config.dataset.size_multiple=1 evaluates
as the authors do.
"""

from dwconv_jax.models import TASK_VARIANTS
from dwconv_jax.ops.checks import check_choice
from dwconv_jax.training import base_config

_PREFIX = "upernet_"
VARIANTS = tuple(name.removeprefix(_PREFIX) for name in TASK_VARIANTS if name.startswith(_PREFIX))


def get_config(variant: str = "dwnet_tiny"):
    check_choice("variant of configs/ade20k.py", variant, VARIANTS)
    config = base_config("segmentation")
    config.model.update(name=_PREFIX + variant, drop_path_rate=0.3)
    config.dataset.update(
        name="folder",
        train_split="training",
        eval_split="validation",
        num_train=20_210,
        num_classes=150,
        zero_is_ignored=True,
        crop_size=512,
        scale=(2048, 512),
        scale_range=(0.5, 2.0),
        max_class_share=0.75,
        flip=True,
        photometric=True,
        size_multiple=32,
    )
    config.num_steps = 160_000
    config.batch_size = 16
    config.eval_batch_size = 8
    config.optimizer.update(
        schedule="poly",
        decayed="all_but_norms",
        learning_rate=6e-5,
        warmup_learning_rate=6e-11,
        min_learning_rate=0.0,
        warmup_steps=1_500,
        weight_decay=0.01,
        clip_norm=float("inf"),
    )
    config.log_every_steps = 50
    config.eval_every_steps = 16_000
    config.checkpoint_every_steps = 4_000
    return config
