"""Clouds of any size to what a point classifier takes."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class CloudPreprocessing:
    """How clouds become inputs, and how they are looked at.

    Attributes:
      unit_sphere: whether the mean of a cloud moves to the origin, and its farthest point to a
        distance of 1.
      cloud_size: points of an input. Of larger clouds some are left out, and smaller ones repeat
        theirs.
      num_points: points that the prompt sees: far ones of an input.
      num_views: from how many places a cloud is looked at.
    """

    unit_sphere: bool = True
    cloud_size: int = 2048
    num_points: int = 1024
    num_views: int = 8

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Prepares a cloud as evaluation does.

        Args:
          points: float32 `[n, 3]`, n at least 1; the second axis points up.

        Returns:
          float32 `[cloud_size, 3]`, whose third axis points up.
        """
        if self.unit_sphere:
            points = points - points.mean(0)
            points = points / (np.linalg.norm(points, axis=1).max() or 1)
        points = np.stack([-points[:, 2], -points[:, 0], points[:, 1]], 1)
        count, places = len(points), np.arange(self.cloud_size)
        return points[places * count // self.cloud_size if count > len(places) else places % count]
