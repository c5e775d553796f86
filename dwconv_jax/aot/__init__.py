"""Ahead-of-time compilation: a training step for hardware that is not there, and its cost."""
