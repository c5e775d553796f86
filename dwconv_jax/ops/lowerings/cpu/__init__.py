"""What CPUs need: a compiled kernel, and sums of shifted products for XLA."""
