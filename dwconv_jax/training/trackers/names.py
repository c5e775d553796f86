"""The trackers that a config may name; each is also an extra of this package."""

TRACKERS = ("mlflow", "trackio", "wandb")
