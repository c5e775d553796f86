"""Image augmentations in TensorFlow, stateless: a seed decides every random choice."""
