"""Side-by-side measurements: `python -m benchmarks.operators`, `python -m benchmarks.models`."""
