"""ImageNet-1K (tfds imagenet2012) at 224x224, with the schedule of the paper.

    python main.py --config=configs/imagenet.py:dwnet_tiny --workdir=runs/dwnet_tiny

Variants: every name of `dwconv_jax.models.VARIANTS`. The optimiser, the schedule, drop path and the
batch-norm groups are the authors'. The augmentation is only a random resized crop and a flip so
far: without mixup, cutmix, RandAugment and erasing, do not expect the published accuracies (81.2
and 81.8 for dwnet_tiny and dynamic_dwnet_tiny, 83.2 for both base models, in the authors' README).
Meant for 8 or more accelerators; the authors of this project have not run it.
"""

from dwconv_jax.models import VARIANTS
from dwconv_jax.ops.checks import check_choice
from dwconv_jax.training import base_config


def get_config(variant: str = "dwnet_tiny"):
    check_choice("variant of configs/imagenet.py", variant, tuple(VARIANTS))
    config = base_config()
    base = variant.endswith("base")
    config.model.update(name=variant, drop_path_rate=0.5 if base else 0.2, dtype="bfloat16")
    if "dwnet" in variant:
        # The authors' batch norms saw one GPU's images.
        config.model.batch_norm_group_size = 64 if base else 128
    config.dataset.update(
        name="imagenet2012",
        train_split="train",
        eval_split="validation",
        num_train=1_281_167,
        image_size=224,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        augment="inception",
        eval_resize=256,
        shuffle_buffer=100_000,
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
    )
    config.label_smoothing = 0.1
    config.log_every_steps = 100
    config.eval_every_steps = 1251
    config.checkpoint_every_steps = 1251
    return config
