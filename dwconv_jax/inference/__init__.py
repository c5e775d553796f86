"""Prediction and export: both need the workdir of a run alone, neither data nor optimizer state."""
