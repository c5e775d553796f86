"""Ahead-of-time compilation of a training step for absent hardware, and its cost."""
