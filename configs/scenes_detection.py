"""Detection of real digits on real photographs, with masks: offline.

    JAX_NUM_CPU_DEVICES=2 dwconv-jax train --config=scenes_detection \
        --workdir=runs/scenes_detection

The tfds data set `scenes/digits` is composed of images that scikit-learn ships: 6,000 scenes of
64x64 pixels to train and 500 to test, which show other digits on other parts of the photographs.
The ten digits are the classes. Average precision on the test scenes, with the time on two CPU cores
of which another program used one most of the time:

    step    time     boxes   masks
     750    5 min    0.603   0.571
    2250   15 min    0.736   0.688
"""

from dwconv_jax.training import base_config


def get_config():
    config = base_config("detection")
    config.model.update(
        name="cascade_mask_rcnn_dwnet_tiny",
        embed_dim=32,
        depths=(1, 1, 2, 1),
        window_size=7,
        drop_path_rate=0.0,
        pyramid_features=32,
        hidden_features=128,
        settings=dict(
            # All objects (up to 40 pixels) are assigned to stride 4, and most are as large as its
            # anchors.
            anchor_scale=7.0,
            finest_scale=28.0,
            train_candidates=100,
            train_proposals=100,
            candidates=60,
            proposals=60,
            # With at most four objects, more samples would cost time and teach little.
            anchor_samples=64,
            roi_samples=16,
            max_detections=15,
        ),
    )
    config.dataset.update(name="scenes/digits", num_train=6_000)
    config.num_epochs = 3
    config.batch_size = 8
    config.eval_batch_size = 20
    config.optimizer.update(
        learning_rate=2e-3,
        warmup_learning_rate=2e-6,
        min_learning_rate=2e-5,
        warmup_epochs=0.2,
        b2=0.95,  # as in scenes_segmentation.py
    )
    config.log_every_steps = 75
    config.eval_every_steps = 750
    config.checkpoint_every_steps = 375
    return config
