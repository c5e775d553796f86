"""Published network families, one file each: block, variants with exact counts, PyTorch layout."""
