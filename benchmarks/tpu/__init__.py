"""TPU: estimates from the compiler, and a program that measures on hardware."""
