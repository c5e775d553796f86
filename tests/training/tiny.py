"""A config so small that a run takes seconds: `--config=tests/training/tiny.py`."""

from dwconv_jax.training import base_config


def get_config():
    config = base_config()
    config.model.update(
        name="dynamic_dwnet_tiny",
        patch_size=2,
        embed_dim=8,
        depths=(1, 1),
        window_size=3,
        drop_path_rate=0.2,
    )
    config.dataset.update(name="digits", image_size=8, augment="pad_crop", shuffle_buffer=500)
    config.num_epochs = 4
    config.batch_size = 464  # three steps an epoch
    config.eval_batch_size = 200  # 360 test images: the last batch is padded
    config.optimizer.update(learning_rate=1e-2, warmup_epochs=1.0)
    config.log_every_steps = 2
    config.eval_every_steps = 6
    config.checkpoint_every_steps = 2
    return config
