"""MLflow: a run for each generation, in an experiment for each update."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlflow.entities import Run

    from springtide_trainer.tracking.tracker import Ending, Point, TrackedRun

SETTINGS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # a later call tries again
    "MLFLOW_CONFIGURE_LOGGING": "false",  # its handler writes no JSON
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_FILE_STORE": "true",
}
"""Defaults of variables that the package reads."""
AT_ONCE = 1000
"""Metrics in one request: the limit of the server."""
LONGEST_VALUE = 500
"""Characters of a parameter that every server takes."""
RUN = "springtide.run"
ENDED = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}


class MLflow:
    """A run on the server of MLFLOW_TRACKING_URI, else in files.

    The run is found by a tag, so every pod of a generation goes on in the same one. What it has
    already is not sent again.
    """

    def __init__(self, run: TrackedRun) -> None:
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        place = os.environ.get("MLFLOW_TRACKING_URI")
        if not place and not run.on_claim:
            raise LookupError("no MLFLOW_TRACKING_URI, and the storage is an object store")
        self._client = MlflowClient(tracking_uri=place or (run.folder / "mlruns").as_uri())
        self._run = self._opened(run)
        self._newest: dict[str, int] = {}

    def log(self, points: Sequence[Point]) -> None:
        """Send the points that the run does not have yet."""
        from mlflow.entities import Metric

        new = [
            Metric(_name(each.name), each.value, int(each.at * 1000), each.step)
            for each in points
            if each.step > self._newest_step(_name(each.name))
        ]
        for start in range(0, len(new), AT_ONCE):
            self._client.log_batch(self._run, metrics=new[start : start + AT_ONCE])

    def close(self, ending: Ending) -> None:
        """Write how the run ended; a resumed one runs again."""
        self._client.set_terminated(self._run, ENDED[ending])

    def _experiment(self, run: TrackedRun) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or run.update
        known = self._client.get_experiment_by_name(name)
        return str(known.experiment_id if known else self._client.create_experiment(name))

    def _opened(self, run: TrackedRun) -> str:
        """Return the id of the run, with all parameters: an earlier try may have ended before."""
        from mlflow.entities import Param

        opened = self._found(run) or self._created(run)
        wanted = _parameters(run.parameters)
        missing = [Param(*each) for each in wanted.items() if each[0] not in opened.data.params]
        self._client.log_batch(opened.info.run_id, params=missing)
        return str(opened.info.run_id)

    def _found(self, run: TrackedRun) -> Run | None:
        """Return the run that another pod of this generation created."""
        wanted = f"tags.`{RUN}` = '{run.update}/{run.name}'"
        found = self._client.search_runs([self._experiment(run)], wanted, max_results=1)
        if not found:
            return None
        self._client.update_run(found[0].info.run_id, status="RUNNING")
        return found[0]

    def _created(self, run: TrackedRun) -> Run:
        tags = {RUN: f"{run.update}/{run.name}"}
        return self._client.create_run(self._experiment(run), tags=tags, run_name=run.title)

    def _newest_step(self, name: str) -> int:
        """Return the newest step that the run had of a metric before this pod; -1 without any."""
        if name not in self._newest:
            history = self._client.get_metric_history(self._run, name)
            self._newest[name] = max((each.step for each in history), default=-1)
        return self._newest[name]


def _parameters(given: Mapping[str, str]) -> dict[str, str]:
    """Return parameters as MLflow takes them; names that it cannot tell apart get an underscore."""
    found: dict[str, str] = {}
    for text, value in given.items():
        name = _name(text)
        while name in found:
            name += "_"
        if value:
            found[name] = value[:LONGEST_VALUE]
    return found


def _name(text: str) -> str:
    """Return a name with the characters that MLflow takes: ndcg@10 becomes ndcg_10."""
    return re.sub(r"[^/\w. -]", "_", text)
