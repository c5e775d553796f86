"""The program `dwconv-jax`: `main` finds a command; the others are a file each."""
