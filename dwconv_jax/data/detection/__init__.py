"""Images with boxes, classes and masks of objects."""
