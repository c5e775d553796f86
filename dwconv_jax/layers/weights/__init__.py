"""Weight sources: where the weights of a locally connected layer come from."""
