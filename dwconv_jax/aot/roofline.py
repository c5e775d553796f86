"""Peak rates of accelerators, and the least time that a program takes on them."""

import dataclasses

from dwconv_jax.aot.operations import Operations


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """Peak rates of one chip or GPU.

    Attributes:
      memory: bytes of main memory.
      matrix: operations per second on bfloat16 matrices.
      vector: elementwise operations per second.
      bandwidth: bytes per second to and from main memory.
      network: bytes per second to the other chips of its slice or host.
    """

    memory: float
    matrix: float
    vector: float
    bandwidth: float
    network: float


# Matrix rate, memory, its bandwidth and half the bidirectional network are the vendors' published
# numbers. The vector rate of a TPU is issue slots x 1,024 lanes x clock x cores, with the clocks
# that the matrix rates imply; a GPU's is its float32 rate.
ACCELERATORS = {
    "v4": Accelerator(32 * 2**30, 275e12, 2 * 1024 * 1.05e9 * 2, 1228e9, 150e9),
    "v5e": Accelerator(16 * 2**30, 197e12, 4 * 1024 * 1.5e9, 819e9, 200e9),
    "v5p": Accelerator(95 * 2**30, 459e12, 4 * 1024 * 1.75e9 * 2, 2765e9, 600e9),
    "v6e": Accelerator(32 * 2**30, 918e12, 4 * 1024 * 1.75e9, 1638e9, 400e9),
    "h100": Accelerator(80 * 2**30, 989e12, 67e12, 3352e9, 450e9),
}


def least_seconds(
    accelerator: Accelerator, operations: Operations, traffic: float, sent: float
) -> dict[str, float]:
    """Returns the seconds that each part of a chip needs at its peak; a step takes the longest.

    Args:
      accelerator: the kind of device.
      operations: of one device.
      traffic: bytes that a device moves to and from its memory.
      sent: bytes that a device sends.
    """
    return {
        "matrix unit": operations.matrix / accelerator.matrix,
        "vector unit": operations.vector / accelerator.vector,
        "memory": traffic / accelerator.bandwidth,
        "network": sent / accelerator.network,
    }
