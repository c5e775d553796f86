"""Static-shape operators of object detection: boxes, anchors, NMS, RoIAlign, masks."""
