"""Classification of point clouds: views, loss, class-mean accuracy and pictures."""
