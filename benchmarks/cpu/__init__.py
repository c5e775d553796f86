"""CPU: measurements side by side with PyTorch."""
