"""Side-by-side measurements, such as `python -m benchmarks.cpu.operators`."""
