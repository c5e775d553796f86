"""Images with label maps."""
