"""What a config may say: every field, its default, and the checks that need no data."""

import difflib
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from dwconv_jax.errors import UserError
from dwconv_jax.ops.checks import check_choice

# Fields that do not change what a run learns: a resumed run, or an evaluation, may differ in them.
OPERATIONAL = {
    "checkpoint_every_steps",
    "dataset.eval_flip",
    "dataset.eval_scales",
    "dataset.eval_split",
    "eval_batch_size",
    "eval_every_steps",
    "keep_checkpoints",
    "log_every_steps",
    "max_skipped_steps",
    "mesh",
    "profile_steps",
}


_DTYPES = ("float32", "bfloat16")


def _classification_dataset() -> dict[str, Any]:
    """See dwconv_jax.data.ClassificationConfig."""
    return dict(
        name="digits",
        data_dir=placeholder(str),
        train_split="train",
        eval_split="test",
        num_train=placeholder(int),  # where the data is not at hand: --mode=compile
        image_size=32,
        mean=(0.5,),
        std=(0.5,),
        augment="none",
        rand_augment_magnitude=placeholder(float),
        rand_augment_std=0.0,
        color_jitter=0.0,
        random_erasing=0.0,
        eval_resize=placeholder(int),
        shuffle_buffer=50_000,
        max_unreadable=0,
    )


def _segmentation_dataset() -> dict[str, Any]:
    """See dwconv_jax.data.SegmentationConfig."""
    return dict(
        name="scenes/digits",
        data_dir=placeholder(str),
        train_split="train",
        eval_split="test",
        num_train=placeholder(int),  # where the data is not at hand: --mode=compile
        num_classes=placeholder(int),
        zero_is_ignored=False,
        crop_size=64,
        scale=(64, 64),
        scale_range=(1.0, 1.0),
        max_class_share=1.0,
        flip=False,
        photometric=False,
        size_multiple=1,
        eval_scales=(1.0,),
        eval_flip=False,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        shuffle_buffer=50_000,
        max_unreadable=0,
    )


def _detection_dataset() -> dict[str, Any]:
    """See dwconv_jax.data.DetectionConfig."""
    return dict(
        name="scenes/digits",
        data_dir=placeholder(str),
        train_split="train",
        eval_split="test",
        num_train=placeholder(int),  # where the data is not at hand: --mode=compile
        num_classes=placeholder(int),  # likewise
        max_objects=5,
        canvases=((64, 64),),
        scale=(64, 64),
        train_shortest=(64,),
        crop_shortest=(),
        crop_range=(48, 64),
        flip=False,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )


_DATASETS = {
    "classification": _classification_dataset,
    "detection": _detection_dataset,
    "segmentation": _segmentation_dataset,
}


def base_config(task: str = "classification") -> ConfigDict:
    """A config with every field of a task; the files in `configs/` change what they need."""
    check_choice("config.task", task, tuple(_DATASETS))
    return ConfigDict(
        dict(
            task=task,
            seed=0,
            num_epochs=30,
            num_steps=placeholder(int),  # in place of num_epochs
            batch_size=128,  # global, over all devices and processes
            eval_batch_size=256,
            accumulation_steps=1,  # micro-batches of a step
            init_from=placeholder(str),  # weights to start from: .pth, .safetensors, checkpoint
            # Arguments of dwconv_jax.create_model; dtype is the computation's.
            model=dict(
                name="dwnet_tiny",
                drop_path_rate=0.0,
                dtype="float32",
                remat=False,
                lowering=placeholder(str),  # "pallas": our kernels for TPU v5e and later
            ),
            dataset=_DATASETS[task](),
            optimizer=dict(
                schedule="cosine",  # "poly", or "step": a tenth from each of decay_epochs on
                decay_epochs=(),
                decayed="kernels",  # by weight_decay; or "all_but_norms"
                learning_rate=5e-4,  # at the end of warm-up
                warmup_learning_rate=5e-7,
                min_learning_rate=5e-6,
                reference_batch_size=placeholder(int),  # rates scale by batch_size over this
                warmup_epochs=5.0,
                weight_decay=0.05,
                b1=0.9,
                b2=0.999,
                eps=1e-8,
                clip_norm=5.0,
            ),
            ema_decay=placeholder(float),  # of moving averages to evaluate; None: without
            max_skipped_steps=0,  # whose loss or gradient is not finite, before the run stops
            label_smoothing=0.0,
            # Mixup and cutmix; an alpha of 0 is without. See tasks/classification/mixing.py.
            mix=dict(
                mixup_alpha=0.0,
                cutmix_alpha=0.0,
                cutmix_probability=0.5,  # where both are on
                group_size=placeholder(int),  # images that share a draw; None: the whole batch
            ),
            # Mesh axes; -1 takes the remaining devices. 'fsdp' shards parameters and batch.
            mesh=dict(data=-1, fsdp=1),
            profile_steps=(),  # (first, last) step of a profiler trace in the workdir
            log_every_steps=50,
            eval_every_steps=500,
            checkpoint_every_steps=500,
            keep_checkpoints=2,  # newest; the best one is kept besides
        )
    )


def validate(config: ConfigDict) -> None:
    """Checks names, types and ranges.

    Raises:
      ValueError: naming the field, what was found and what is legal.
    """
    _check_fields(config, base_config(config.task))
    check_choice("config.optimizer.schedule", config.optimizer.schedule, ("cosine", "poly", "step"))
    check_choice("config.optimizer.decayed", config.optimizer.decayed, ("kernels", "all_but_norms"))
    for name in ("num_epochs", "batch_size", "eval_batch_size", "accumulation_steps"):
        _check_at_least(config, name, 1)
    for name in ("log_every_steps", "eval_every_steps", "checkpoint_every_steps"):
        _check_at_least(config, name, 1)
    _check_at_least(config, "keep_checkpoints", 1)
    _check_at_least(config, "max_skipped_steps", 0)
    if config.num_steps is not None:
        _check_at_least(config, "num_steps", 1)
    if config.batch_size % config.accumulation_steps:
        raise UserError(
            f"config.accumulation_steps={config.accumulation_steps} must divide "
            f"batch_size={config.batch_size}"
        )
    dtype = config.model.get("dtype")
    if dtype not in _DTYPES:
        raise UserError(f"config.model.dtype={dtype!r} must be one of {', '.join(_DTYPES)}")
    if config.ema_decay is not None and not 0 < config.ema_decay < 1:
        raise UserError(f"config.ema_decay={config.ema_decay} must be None or in (0, 1)")
    if not 0 <= config.label_smoothing < 1:
        raise UserError(f"config.label_smoothing={config.label_smoothing} must be in [0, 1)")
    _check_mix(config)
    if not 0 <= config.optimizer.warmup_epochs < config.num_epochs:
        raise UserError(
            f"config.optimizer.warmup_epochs={config.optimizer.warmup_epochs} must be in "
            f"[0, num_epochs={config.num_epochs})"
        )


def total_steps(config: ConfigDict, steps_per_epoch: int) -> int:
    """Steps of the whole run."""
    return config.num_steps or config.num_epochs * steps_per_epoch


def _check_mix(config: ConfigDict) -> None:
    for name in ("mixup_alpha", "cutmix_alpha"):
        if config.mix[name] < 0:
            raise UserError(f"config.mix.{name}={config.mix[name]} must not be negative")
    if not 0 <= config.mix.cutmix_probability <= 1:
        raise UserError(
            f"config.mix.cutmix_probability={config.mix.cutmix_probability} must be in [0, 1]"
        )
    group_size, images = config.mix.group_size, config.batch_size // config.accumulation_steps
    if group_size is not None and (group_size < 1 or images % group_size):
        raise UserError(
            f"config.mix.group_size={group_size} must divide the {images} images of "
            + ("a micro-batch" if config.accumulation_steps > 1 else f"batch_size={images}")
        )


def _check_at_least(config: ConfigDict, name: str, least: int) -> None:
    value = config[name]
    if not isinstance(value, int) or value < least:
        raise UserError(f"config.{name} must be an int >= {least}, got {value!r}")


def _check_fields(config: ConfigDict, known: ConfigDict, prefix: str = "config") -> None:
    for name in config:
        # The model checks its own arguments: which are legal depends on its name.
        if name not in known and prefix != "config.model":
            close = difflib.get_close_matches(name, list(known), n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise UserError(
                f"unknown field {prefix}.{name}; {hint}known: {', '.join(sorted(known))}"
            )
        if isinstance(known.get(name), ConfigDict):
            if not isinstance(config[name], ConfigDict):
                raise UserError(f"{prefix}.{name} must hold fields, got {config[name]!r}")
            _check_fields(config[name], known[name], f"{prefix}.{name}")
    missing = set(known) - set(config)
    if missing:
        raise UserError(f"{prefix} lacks {', '.join(sorted(missing))}; start from base_config()")


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """What makes two configs different runs, a line a field; operational fields aside."""
    lines = []
    for name in sorted(old.keys() | new.keys()):
        if f"{prefix}{name}" in OPERATIONAL:
            continue
        a, b = old.get(name), new.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            lines += differences(a, b, f"{prefix}{name}.")
        elif a != b:
            lines.append(f"{prefix}{name}: {a!r} there, {b!r} now")
    return lines
