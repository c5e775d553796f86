"""The peers that benchmarks compare with: PyTorch, in an environment of its own."""
