"""Side-by-side measurements: `python -m benchmarks.cpu.operators` and others, see README.md."""
