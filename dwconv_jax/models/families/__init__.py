"""One file a family: its block, its variants and its PyTorch layout."""
