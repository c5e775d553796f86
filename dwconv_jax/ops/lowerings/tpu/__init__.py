"""Lowerings for TPU: Pallas kernels, and a form for XLA with images in the lanes."""
