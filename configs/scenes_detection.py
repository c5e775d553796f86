"""Detection of real digits on real photographs, with masks: offline.

    python main.py --config=configs/scenes_detection.py --workdir=runs/scenes_detection

tfds data set `scenes/digits`, made from what scikit-learn ships: 3,000 scenes of 96x96 pixels to
train and 500 to test, of other digits on other parts of the photographs; ten classes of objects.
"""

from dwconv_jax.training import base_config


def get_config():
    config = base_config("detection")
    config.model.update(
        name="cascade_mask_rcnn_dwnet_tiny",
        patch_size=2,
        embed_dim=24,
        depths=(1, 1, 2, 1),
        window_size=7,
        drop_path_rate=0.0,
        pyramid_features=32,
        hidden_features=128,
        settings=dict(
            # Objects of up to 56 pixels, which is all, are seen at stride 2.
            finest_scale=28.0,
            train_candidates=200,
            train_proposals=200,
            candidates=100,
            proposals=100,
            roi_samples=48,
            max_detections=20,
        ),
    )
    config.dataset.update(
        name="scenes/digits", num_train=3_000, num_classes=10, train_shortest=(96,), max_objects=5
    )
    config.num_epochs = 12
    config.batch_size = 16
    config.eval_batch_size = 20
    config.optimizer.update(
        learning_rate=1e-3,
        warmup_learning_rate=1e-6,
        min_learning_rate=1e-5,
        warmup_epochs=1.0,
    )
    config.log_every_steps = 50
    config.eval_every_steps = 748
    config.checkpoint_every_steps = 748
    return config
