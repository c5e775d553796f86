"""Image classification: cross-entropy, accuracy, mixup and cutmix."""
