"""What each parameter gets: whether it is trained, its learning rate and its weight decay."""
