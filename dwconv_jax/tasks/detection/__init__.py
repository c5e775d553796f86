"""Detection and instance segmentation: losses, COCO's average precision, pictures."""
