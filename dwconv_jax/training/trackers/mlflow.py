"""MLflow. The environment (`MLFLOW_TRACKING_URI`, `MLFLOW_EXPERIMENT_NAME`) says where to."""

import json
import os
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath
from ml_collections import ConfigDict
from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from dwconv_jax.training.config import flatten
from dwconv_jax.training.trackers.tracker import PROJECT, Tracker, read_id, write_id


class MlflowTracker(Tracker):
    """Writes to a run of MLflow."""

    def __init__(self, workdir: epath.Path, config: ConfigDict):
        """See the base class."""
        self._client = MlflowClient()
        known = read_id(workdir, "mlflow")
        if known is None:
            self._run = self._create(workdir, config)
            write_id(workdir, "mlflow", self._run)
        else:
            self._run = known
            self._client.update_run(known, status="RUNNING")

    def _create(self, workdir: epath.Path, config: ConfigDict) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = self._client.get_experiment_by_name(name)
        number = experiment.experiment_id if experiment else self._client.create_experiment(name)
        run = self._client.create_run(number, run_name=workdir.name).info.run_id
        fields = flatten(json.loads(config.to_json_best_effort()))
        self._client.log_batch(
            run, params=[Param(key, str(value)) for key, value in fields.items()]
        )
        return run

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """See the base class."""
        now = int(1000 * time.time())
        metrics = [Metric(name, float(value), now, step) for name, value in scalars.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def write_image(self, step: int, name: str, image: np.ndarray) -> None:
        """See the base class."""
        self._client.log_image(self._run, image, key=name, step=step)

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        """Writes HTML files among the artifacts."""
        for name, text in texts.items():
            self._client.log_text(self._run, text, f"{name}.html")

    def close(self) -> None:
        """See the base class."""
        self._client.set_terminated(self._run)
