"""Real handwritten digits: trains offline in minutes.

    dwconv-jax train --config=digits --workdir=runs/digits

scikit-learn's 1,797 digits of 8x8 pixels, 1,437 to train and 360 to test.
"""

from dwconv_jax.training import base_config


def get_config():
    config = base_config()
    config.model.update(
        name="dynamic_dwnet_tiny",
        patch_size=1,
        embed_dim=24,
        depths=(1, 1, 1),
        window_size=5,
        drop_path_rate=0.1,
    )
    config.dataset.update(name="digits", image_size=8, augment="pad_crop", shuffle_buffer=2_000)
    config.num_epochs = 40
    config.batch_size = 64
    config.eval_batch_size = 120
    config.optimizer.update(
        learning_rate=4e-3, warmup_learning_rate=4e-6, min_learning_rate=4e-5, warmup_epochs=3.0
    )
    config.label_smoothing = 0.1
    config.log_every_steps = 110
    config.eval_every_steps = 110
    config.checkpoint_every_steps = 110
    return config
