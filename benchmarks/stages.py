"""The operator inside the tiny models at 224x224: what the benchmarks measure it on."""

STAGES = ((56, 96), (28, 192), (14, 384), (7, 768))  # side of the map, channels
KERNEL = 7
TAPS = KERNEL**2
GROUPS = 32  # of centre-predicted weights


def weight_shape(dynamic: str, batch: int, size: int, channels: int) -> tuple[int, ...]:
    """The shape of "static", "pooled" or "centre" weights of a sliding kernel."""
    shapes = {
        "static": (1, 1, 1, TAPS, channels),
        "pooled": (batch, 1, 1, TAPS, channels),
        "centre": (batch, size**2, 1, TAPS, min(GROUPS, channels)),
    }
    return shapes[dynamic]
