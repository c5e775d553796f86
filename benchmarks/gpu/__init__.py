"""GPU: what the compiler makes of the operators and models."""
