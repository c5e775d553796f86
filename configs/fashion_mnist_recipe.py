"""Fashion-MNIST with every part of the ImageNet recipe: tries the recipe in minutes.

    dwconv-jax train --config=fashion_mnist_recipe --workdir=runs/recipe

Random resized crops, RandAugment, erasing, mixup, cutmix, label smoothing, drop path and clipping,
on the network of configs/fashion_mnist.py. Look at the contact sheet in TensorBoard and at the
loss, which falls from 2.3. Accuracy is low: this much augmentation needs more than two epochs.
"""

from dwconv_jax.configs import fashion_mnist, imagenet


def get_config():
    config = fashion_mnist.get_config("dwnet")
    recipe = imagenet.get_config("dwnet_tiny")
    config.mix.update(recipe.mix.to_dict())
    config.model.drop_path_rate = recipe.model.drop_path_rate
    for field in (
        "augment", "rand_augment_magnitude", "rand_augment_std", "color_jitter", "random_erasing"
    ):  # fmt: skip
        config.dataset[field] = recipe.dataset[field]
    config.label_smoothing = recipe.label_smoothing
    config.num_epochs = 2
    config.optimizer.warmup_epochs = 0.5
    config.log_every_steps = 50
    return config
