"""Lowerings for CPU: a compiled kernel, and sums of shifted products in XLA."""
