"""Optional experiment trackers: one writer of clu's kind in each file."""
