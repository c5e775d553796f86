"""Semantic segmentation: losses, mean IoU, and whole-picture inference."""
