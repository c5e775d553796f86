"""Fast equivalents of `ops.definition`, one file a strategy; `ops.dispatch` chooses among them."""
