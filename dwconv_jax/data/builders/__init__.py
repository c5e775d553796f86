"""tfds builders of data sets that need no download."""
