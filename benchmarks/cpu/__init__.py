"""Measurements on a CPU, side by side with PyTorch."""
