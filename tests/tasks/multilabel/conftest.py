"""Pictures whose labels are their colors, as CSV lists."""

import numpy as np
import pytest
from PIL import Image

from dwconv_jax.training import base_config

COLORS = ("blue", "green", "red")


@pytest.fixture(scope="module")
def colors_dir(tmp_path_factory):
    """48 images to train on and 20 to evaluate on; each has none, some or all of three colors."""
    folder = tmp_path_factory.mktemp("colors")
    random = np.random.default_rng(0)
    for split, count in (("train", 48), ("test", 20)):
        lines = ["file,label"]
        for i in range(count):
            present = random.integers(0, 2, 3)
            level = 255 * present[::-1].astype(np.uint8)  # red, green, blue
            pixels = np.broadcast_to(level, (8, 8, 3)) // 2 + random.integers(0, 60, (8, 8, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{split}_{i}.png")
            labels = [name for name, is_there in zip(COLORS, present, strict=True) if is_there]
            lines.append(f"{split}_{i}.png,{'; '.join(labels)}")
        (folder / f"{split}.csv").write_text("\n".join(lines))
    return folder


def small_config(colors_dir):
    config = base_config("multilabel")
    config.model.update(
        name="dwnet_tiny", patch_size=2, embed_dim=8, depths=(1,), window_size=3, drop_path_rate=0.0
    )
    config.dataset.update(data_dir=str(colors_dir), image_size=8)
    config.num_steps = 60
    config.batch_size = 24
    config.eval_batch_size = 16  # the last batch is padded
    config.optimizer.update(learning_rate=3e-2, warmup_steps=5)
    config.log_every_steps = config.eval_every_steps = config.checkpoint_every_steps = 60
    return config


@pytest.fixture
def config(colors_dir):
    return small_config(colors_dir)
