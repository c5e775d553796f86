"""The fields of a run's configuration, each declared once."""

import dataclasses
from typing import Any, Self

from dwconv_jax.data.classification.config import ClassificationConfig
from dwconv_jax.data.config import DatasetConfig
from dwconv_jax.data.detection.config import DetectionConfig
from dwconv_jax.data.multilabel.config import MultilabelConfig
from dwconv_jax.data.point_cloud.config import PointCloudConfig
from dwconv_jax.data.segmentation.config import SegmentationConfig
from dwconv_jax.data.settings import (
    NAME,
    POSITIVE,
    POSITIVE_NUMBER,
    Legal,
    Settings,
    int_from,
    is_int,
    is_number,
    is_pair,
    is_positive,
    number_from,
    number_in,
    one_of,
    setting,
)
from dwconv_jax.errors import UserError
from dwconv_jax.training.optimizer.patterns import PATTERNS, is_pattern
from dwconv_jax.training.trackers.names import TRACKERS

DATASETS: dict[str, type[DatasetConfig]] = {
    "classification": ClassificationConfig,
    "detection": DetectionConfig,
    "multilabel": MultilabelConfig,
    "point_cloud": PointCloudConfig,
    "segmentation": SegmentationConfig,
}

_BETA = Legal("in [0, 1)", lambda value: is_number(value) and 0 <= value < 1)
_SEED = Legal("an int in [0, 2**32)", lambda value: is_int(value) and 0 <= value < 2**32)
_AXIS = Legal("a positive int or -1", lambda value: is_int(value) and (value > 0 or value == -1))


_OVERRIDES = {
    "embed_dim": POSITIVE,
    "depths": Legal(
        "a tuple of positive ints",
        lambda value: (
            isinstance(value, tuple | list) and len(value) > 0 and all(map(is_positive, value))
        ),
    ),
    "patch_size": POSITIVE,
    "mlp_ratio": POSITIVE_NUMBER,
    "batch_norm_group_size": Legal(
        "None or a positive int", lambda value: value is None or is_positive(value)
    ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig(Settings):
    """Arguments of `dwconv_jax.create_model`, which also takes those that are not listed here."""

    path = "config.model"
    accepts_more = True

    @classmethod
    def from_config(cls, config: Any) -> Self:
        """See `Settings`; also checks the overrides that every model takes, if there are any."""
        settings = super().from_config(config)
        for name, check in _OVERRIDES.items():
            if name in config and (complaint := check.complaint(config[name])):
                raise UserError(f"{cls.path}.{name}={config[name]!r} {complaint}")
        return settings

    name: str = setting("dwnet_tiny", "A name in `dwconv_jax.list_models()`.", NAME)
    drop_path_rate: float = setting(
        0.0, "Stochastic depth: the rate of the last block, which earlier ones grow to.", _BETA
    )
    dtype: str = setting(
        "float32",
        "The dtype of computation.",
        one_of("float32", "bfloat16"),
    )
    remat: bool = setting(
        False, "Recomputes each block's activations in the backward pass to save memory."
    )
    lowering: str | None = setting(
        None,
        "`pallas` asks for the kernels for TPU v5e and later, `cuda` for those for NVIDIA GPUs; "
        "None leaves the choice open.",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig(Settings):
    """AdamW and its learning rate."""

    path = "config.optimizer"

    schedule: str = setting(
        "cosine",
        "After warm-up the rate follows half a cosine, falls linearly (`poly`), or is divided by "
        "ten at each of `decay_epochs` (`step`).",
        one_of("cosine", "poly", "step"),
    )
    decay_epochs: tuple[int, ...] = setting(
        (),
        "The epochs at which the schedule `step` lowers the rate.",
        Legal("positive ints or ()", lambda epochs: all(map(is_positive, epochs))),
    )
    decayed: str = setting(
        "kernels",
        "Which parameters weight decay shrinks; `all_but_norms` is the rule of mmseg and mmdet.",
        one_of("kernels", "all_but_norms"),
    )
    learning_rate: float = setting(5e-4, "The learning rate at the end of warm-up.", number_from(0))
    warmup_learning_rate: float = setting(
        5e-7, "The learning rate at the first step.", number_from(0)
    )
    min_learning_rate: float = setting(5e-6, "The learning rate at the last step.", number_from(0))
    reference_batch_size: int | None = setting(
        None, "If given, all rates are multiplied by `batch_size` over this.", POSITIVE
    )
    warmup_epochs: float = setting(5.0, "The length of warm-up in epochs.", number_from(0))
    warmup_steps: int | None = setting(
        None, "The length of warm-up in steps; overrides `warmup_epochs`.", int_from(0)
    )
    weight_decay: float = setting(
        0.05, "Decoupled weight decay, relative to the learning rate.", number_from(0)
    )
    weight_decay_groups: tuple[tuple[str, float], ...] = setting(
        (),
        "Pairs of a regular expression and a weight decay, such as `(('bias', 0.0), ('head', "
        "0.1))`: the first expression found in the path of a parameter decides its weight decay, "
        "whatever `decayed` says.",
        Legal(
            "pairs of a regular expression and a number >= 0",
            lambda pairs: all(
                is_pair(pair) and is_pattern(pair[0]) and is_number(pair[1]) and pair[1] >= 0
                for pair in pairs
            ),
        ),
    )
    layer_decay: float = setting(
        1.0,
        "Multiplies the learning rate once for each layer that follows: the head has the whole "
        "rate, the last block `layer_decay` times it, the one before the square, down to the stem.",
        Legal("in (0, 1]", lambda value: is_number(value) and 0 < value <= 1),
    )
    b1: float = setting(0.9, "Decay of the first moment.", _BETA)
    b2: float = setting(0.999, "Decay of the second moment.", _BETA)
    eps: float = setting(1e-8, "Added to the root of the second moment.", number_from(0))
    clip_norm: float = setting(
        5.0, "Clips gradients to this global norm; `inf` turns it off.", POSITIVE_NUMBER
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixConfig(Settings):
    """Mixup and cutmix (classification)."""

    path = "config.mix"

    mixup_alpha: float = setting(
        0.0, "Parameter of mixup's beta distribution; 0 turns it off.", number_from(0)
    )
    cutmix_alpha: float = setting(
        0.0, "Parameter of cutmix's beta distribution; 0 turns it off.", number_from(0)
    )
    cutmix_probability: float = setting(
        0.5,
        "The probability of cutmix, rather than mixup, where both are on.",
        Legal("in [0, 1]", number_in(0, 1).allows),
    )
    group_size: int | None = setting(
        None, "How many images share a random draw; None: all images of a batch.", POSITIVE
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig(Settings):
    """Axes of the device mesh; -1 takes the remaining devices."""

    path = "config.mesh"

    data: int = setting(-1, "Devices that split the batch.", _AXIS, operational=True)
    fsdp: int = setting(
        1, "Devices that split both the batch and the parameters.", _AXIS, operational=True
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig(Settings):
    """A run; `dataset` depends on `task`."""

    path = "config"

    task: str = setting("classification", "What to train.", one_of(*DATASETS))
    seed: int = setting(0, "Decides every random choice.", _SEED)
    num_epochs: int = setting(30, "The length of training in epochs.", int_from(1))
    num_steps: int | None = setting(
        None, "The length of training in steps; overrides `num_epochs`.", int_from(1)
    )
    batch_size: int = setting(
        128, "Examples of a training step, over all devices and processes.", int_from(1)
    )
    eval_batch_size: int = setting(
        256,
        "Examples of an evaluation step; at most as many as the evaluation split has.",
        int_from(1),
        operational=True,
    )
    accumulation_steps: int = setting(
        1, "Micro-batches whose gradients are averaged for a step.", int_from(1)
    )
    init_from: str | None = setting(
        None, "Weights to start from: a .pth or .safetensors file, or a checkpoint of a run."
    )
    train_only: tuple[str, ...] = setting(
        (),
        "Regular expressions; only parameters in whose path one is found are trained, such as "
        "`('head', 'norm')` or `('stages/3', 'head')`. () for all. Frozen batch norms keep their "
        "statistics.",
        PATTERNS,
    )
    lora_rank: int | None = setting(
        None,
        "Low-rank adaptation: the rank of the products added to the kernels of `lora_layers`; None "
        "for no products. `train_only=('lora', 'head')` trains them and the head.",
        POSITIVE,
    )
    lora_layers: tuple[str, ...] = setting(
        ("stages/",),
        "Regular expressions; linear layers in whose path one is found are adapted.",
        PATTERNS,
    )
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    dataset: DatasetConfig = dataclasses.field(default_factory=ClassificationConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    ema_decay: float | None = setting(
        None,
        "Decay of moving averages of the parameters, which are evaluated in their place; "
        "None turns averaging off.",
        Legal("in (0, 1)", lambda value: is_number(value) and 0 < value < 1),
    )
    max_skipped_steps: int = setting(
        0,
        "How many steps with a non-finite loss or gradient to skip before the run stops.",
        int_from(0),
        operational=True,
    )
    label_smoothing: float = setting(0.0, "Label smoothing of classification.", _BETA)
    class_weights: str | tuple[float, ...] | None = setting(
        None,
        "Weights of the classes in the loss: `balanced` for the inverse of their share of the "
        "training examples, or one number for each class. For `multilabel` they multiply the loss "
        "of examples that have the label.",
        Legal(
            "'balanced' or a tuple of positive numbers",
            lambda value: (
                value == "balanced"
                or (isinstance(value, tuple | list) and all(map(POSITIVE_NUMBER.allows, value)))
            ),
        ),
    )
    mix: MixConfig = dataclasses.field(default_factory=MixConfig)
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
    profile_steps: tuple[int, ...] = setting(
        (),
        "First and last step of a profiler trace in the workdir, which TensorBoard opens; () for "
        "none.",
        Legal(
            "() or (first, last), with 1 <= first <= last",
            lambda steps: (
                isinstance(steps, tuple | list)
                and all(map(is_positive, steps))
                and (len(steps) == 0 or (len(steps) == 2 and steps[0] <= steps[1]))
            ),
        ),
        operational=True,
    )
    writers: tuple[str, ...] = setting(
        (),
        "Trackers to write to, besides TensorBoard and `metrics.jsonl`: `wandb`, `mlflow`, "
        "`trackio`.",
        Legal(
            f"a tuple of names among {', '.join(map(repr, TRACKERS))}, each once",
            lambda names: (
                isinstance(names, tuple | list)
                and set(names) <= set(TRACKERS)
                and len(set(names)) == len(names)
            ),
        ),
        operational=True,
    )
    log_every_steps: int = setting(50, "Steps between logs.", int_from(1), operational=True)
    eval_every_steps: int = setting(
        500, "Steps between evaluations.", int_from(1), operational=True
    )
    early_stop_patience: int | None = setting(
        None,
        "Ends the run after this many evaluations in a row without a higher accuracy, mean IoU or "
        "mask AP; None trains to the end.",
        int_from(1),
        operational=True,
    )
    checkpoint_every_steps: int = setting(
        500, "Steps between checkpoints.", int_from(1), operational=True
    )
    log_every_epochs: float | None = setting(
        None, "Epochs between logs; overrides `log_every_steps`.", POSITIVE_NUMBER,
        operational=True,
    )  # fmt: skip
    eval_every_epochs: float | None = setting(
        None, "Epochs between evaluations; overrides `eval_every_steps`.", POSITIVE_NUMBER,
        operational=True,
    )  # fmt: skip
    checkpoint_every_epochs: float | None = setting(
        None, "Epochs between checkpoints; overrides `checkpoint_every_steps`.", POSITIVE_NUMBER,
        operational=True,
    )  # fmt: skip
    keep_checkpoints: int = setting(
        2, "How many of the newest checkpoints to keep, besides the best.", int_from(1),
        operational=True,
    )  # fmt: skip

    def __post_init__(self) -> None:
        """See `Settings`."""
        super().__post_init__()
        if self.batch_size % self.accumulation_steps:
            raise UserError(
                f"config.accumulation_steps={self.accumulation_steps} must divide "
                f"batch_size={self.batch_size}"
            )
        if self.lora_rank is not None and not self.train_only:
            raise UserError(
                f"config.lora_rank={self.lora_rank} needs train_only, which says what is trained "
                "beside the low-rank products: ('lora', 'head') for the head"
            )
        group_size, images = self.mix.group_size, self.batch_size // self.accumulation_steps
        if group_size is not None and images % group_size:
            raise UserError(
                f"config.mix.group_size={group_size} must divide the {images} images of "
                + ("a micro-batch" if self.accumulation_steps > 1 else f"batch_size={images}")
            )
        warmup_epochs = self.optimizer.warmup_epochs
        in_epochs = self.num_steps is None and self.optimizer.warmup_steps is None
        if in_epochs and warmup_epochs >= self.num_epochs:
            raise UserError(
                f"config.optimizer.warmup_epochs={warmup_epochs} must be in "
                f"[0, num_epochs={self.num_epochs}): shorten it too, for example with "
                f"--config.optimizer.warmup_epochs={self.num_epochs / 10:g}"
            )
