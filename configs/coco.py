"""Detection and instance segmentation of COCO with Cascade Mask R-CNN, as the authors train it.

    dwconv-jax train --config=coco:dwnet_tiny --workdir=runs/coco_dwnet_tiny \
        --config.dataset.data_dir=coco --config.init_from=dwnet_tiny_224.pth

Variants: dwnet, dynamic_dwnet, i_dynamic_dwnet and swin, each _tiny and _base (and swin_small).
`data_dir` holds annotations/instances_{train,val}2017.json and the images in train2017 and
val2017. This is the 3x schedule of the paper: 36 epochs in batches of 16, two images per device.

Meant for 8 or more accelerators; the authors of this project have not run it. Published by the
authors of the paper (their README):

                        box AP   mask AP
    dwnet_tiny            49.9      43.4
    dwnet_base            51.0      44.1
    dynamic_dwnet_tiny    50.5      43.7
    dynamic_dwnet_base    51.2      44.4
"""

from dwconv_jax.models import TASK_VARIANTS
from dwconv_jax.ops.checks import check_choice
from dwconv_jax.training import base_config

_PREFIX = "cascade_mask_rcnn_"
VARIANTS = tuple(name.removeprefix(_PREFIX) for name in TASK_VARIANTS if name.startswith(_PREFIX))


def get_config(variant: str = "dwnet_tiny"):
    check_choice("variant of configs/coco.py", variant, VARIANTS)
    config = base_config("detection")
    drop_path_rate = 0.3 if variant.endswith("base") else 0.2
    config.model.update(name=_PREFIX + variant, drop_path_rate=drop_path_rate)
    config.dataset.update(
        name="folder",
        train_split="train2017",
        eval_split="val2017",
        num_train=117_266,
        num_classes=80,
        max_objects=100,
        canvases=((800, 1344), (1344, 800), (1344, 1344)),
        scale=(1333, 800),
        train_shortest=tuple(range(480, 801, 32)),
        crop_shortest=(400, 500, 600),
        crop_range=(384, 600),
        flip=True,
    )
    config.num_epochs = 36
    config.batch_size = 16
    config.eval_batch_size = 8
    config.optimizer.update(
        schedule="step",
        decay_epochs=(27, 33),
        decayed="all_but_norms",
        learning_rate=1e-4,
        warmup_learning_rate=1e-7,
        min_learning_rate=0.0,
        warmup_steps=500,
        weight_decay=0.05,
        clip_norm=float("inf"),
    )
    config.log_every_steps = 50
    config.eval_every_steps = 7_329  # an epoch
    config.checkpoint_every_steps = 1_000
    return config
