"""GPU: the programs that XLA compiles for the operators and models."""
