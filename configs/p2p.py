"""Point clouds through frozen classifiers of images (P2P, Wang et al., NeurIPS 2022).

    python -m dwconv_jax.data.builders.furniture_points    # once; says how to get the models
    dwconv-jax train --config=p2p:furniture --workdir=runs/p2p \
        --config.init_from=efficientnet-lite0-57934424.pth

    dwconv-jax train --config=p2p:modelnet40 --workdir=runs/p2p_modelnet40 \
        --config.dataset.data_dir=modelnet40_ply_hdf5_2048 --config.init_from=convnext_tiny.pth
    dwconv-jax train --config=p2p:scanobjectnn --workdir=runs/p2p_scanobjectnn \
        --config.dataset.data_dir=h5_files/main_split --config.init_from=convnext_tiny.pth

`furniture` takes 5 minutes of CPU time; docs/guides/point_clouds.md has its results, and says
where the weights come from. The others are meant for an accelerator, and the authors of this
project have not run them. The reference reaches 92.6% on ModelNet40, of whose clouds it has 8,192
points and shows the model 4,096, and 84.9% on the hardest variant of ScanObjectNN, both with
ConvNeXt-T and 40 views (`dwconv-jax eval` with --config.dataset.eval_views=40).
"""

from ml_collections import ConfigDict

from dwconv_jax.ops.checks import check_choice
from dwconv_jax.training import base_config

MODELNET40 = (
    "airplane", "bathtub", "bed", "bench", "bookshelf", "bottle", "bowl", "car", "chair", "cone",
    "cup", "curtain", "desk", "door", "dresser", "flower_pot", "glass_box", "guitar", "keyboard",
    "lamp", "laptop", "mantel", "monitor", "night_stand", "person", "piano", "plant", "radio",
    "range_hood", "sink", "sofa", "stairs", "stool", "table", "tent", "toilet", "tv_stand", "vase",
    "wardrobe", "xbox",
)  # fmt: skip
SCANOBJECTNN = (
    "bag", "bin", "box", "cabinet", "chair", "desk", "display", "door", "shelf", "table", "bed",
    "pillow", "sink", "sofa", "toilet",
)  # fmt: skip
# The prompt, the head, and all norms: some are the neck between pooling and head.
TRAINED = "^prompt/|head/|norm|neck/(scale|bias)$"
VARIANTS = ("furniture", "modelnet40", "scanobjectnn")


def get_config(variant: str = "furniture"):
    check_choice("variant of configs/p2p.py", variant, VARIANTS)
    config = base_config("point_cloud")
    config.model.update(name="convnext_tiny")
    config.model.prompt = ConfigDict(
        dict(image_size=224, object_size=224, neighbors=32, features=64, head="linear")
    )
    config.dataset.cloud_size = 2048
    config.num_epochs = 300
    config.batch_size = 64
    config.eval_batch_size = 64
    config.optimizer.update(
        learning_rate=5e-4, min_learning_rate=1e-6, warmup_epochs=0.0, weight_decay=0.05,
        weight_decay_groups=((".", 0.05),), clip_norm=float("inf"),
    )  # fmt: skip
    config.label_smoothing = 0.2
    config.train_only = (TRAINED,)
    config.eval_every_epochs = config.checkpoint_every_epochs = 10
    if variant == "modelnet40":
        config.dataset.update(
            name="h5", class_names=MODELNET40, num_train=9_840, num_points=2048,
            train_split="ply_data_train*.h5", eval_split="ply_data_test*.h5",
        )  # fmt: skip
    elif variant == "scanobjectnn":
        config.model.prompt.object_size = 192
        config.dataset.update(
            name="h5", class_names=SCANOBJECTNN, num_train=11_416, num_points=2048,
            train_split="training_objectdataset_augmentedrot_scale75.h5",
            eval_split="test_objectdataset_augmentedrot_scale75.h5", unit_sphere=False,
        )  # fmt: skip
    else:
        _furniture(config)
    return config


def _furniture(config):
    """Small pictures of few points, for CPUs."""
    config.model.name = "efficientnet_lite0"
    config.model.prompt.update(image_size=64, object_size=64, neighbors=16, features=32)
    config.dataset.update(
        name="furniture_points", num_train=302, cloud_size=1024, num_points=512, eval_views=8,
        mean=(127 / 255,) * 3, std=(128 / 255,) * 3,
    )  # fmt: skip
    config.num_epochs = 30
    config.batch_size = 16
    config.optimizer.update(learning_rate=1e-3, warmup_epochs=1.0)
    config.log_every_steps = 18
    config.eval_every_epochs = config.checkpoint_every_epochs = 10
