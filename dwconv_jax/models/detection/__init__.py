"""Models for detection and instance segmentation."""
