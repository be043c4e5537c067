"""Where a run reports its curves and scores, for people: no part of what is trained or decided."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from springtide_api.schema import Model, ObjectName, cel

Place = Literal["TensorBoard", "MLflow", "WandB"]


@cel(
    "self.reportTo.all(a, self.reportTo.exists_one(b, a == b))",
    "reportTo must be unique; remove the repeated one",
)
class Tracking(Model):
    """Experiment trackers that training and evaluation report to.

    A tracker that fails never fails a run: the result has a warning.
    """

    report_to: Annotated[list[Place], Field(min_length=1, max_length=3)]
    """TensorBoard writes files below storage.uri, and so do MLflow without MLFLOW_TRACKING_URI and
    WandB without WANDB_API_KEY, if storage.uri begins with file://. The trainer image needs the
    package of each."""
    secret_name: ObjectName | None = None
    """Secret in the namespace of the update whose keys become environment variables of training and
    evaluation, such as MLFLOW_TRACKING_URI, MLFLOW_TRACKING_TOKEN, WANDB_API_KEY, WANDB_PROJECT. A
    missing Secret does not stop a run. Default: none."""
