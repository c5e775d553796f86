"""Multi-label classification: sigmoids, mean average precision, thresholds."""
