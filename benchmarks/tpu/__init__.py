"""TPU: estimates from the compiler, and a measurement for when there is one."""
