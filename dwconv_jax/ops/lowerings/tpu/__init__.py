"""What TPUs need: Pallas kernels, and a form for XLA with images in a TPU's lanes."""
