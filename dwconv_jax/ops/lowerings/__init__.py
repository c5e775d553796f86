"""Fast equivalents of `ops.definition`, one file per strategy; `ops.dispatch` chooses."""
