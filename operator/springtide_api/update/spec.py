"""The spec of an `IncrementalUpdate`.

The docstrings of the fields are the text of `kubectl explain`. Defaults are defined here only: the
API server applies those of scalar fields, the operator those of whole blocks. The types of model,
data, training, gate and rollout are in the modules of these names, and rules between these blocks
in `spec_rules` and `task_rules`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from springtide_api.schema import Duration, Model, Uri, cel, cel_rules
from springtide_api.update.compute import Compute, UpdateCompute
from springtide_api.update.data import Data, VolumeClaim
from springtide_api.update.gate import Evaluation, UpdateGate
from springtide_api.update.model import ModelSpec, Serving
from springtide_api.update.rollout import Rollout
from springtide_api.update.spec_rules import HOLDOUTS, MODEL, PLACES, RETENTION
from springtide_api.update.task_rules import METRICS, TASKS
from springtide_api.update.tracking import Tracking
from springtide_api.update.training import Limits, Training


class UpdateLimits(Limits):
    """Limits on running time and number of attempts, and on what all runs of a day use."""

    max_gpu_seconds_per_day: Annotated[int | None, Field(ge=1, le=1_000_000_000)] = None
    """Maximum GPU seconds (seconds that a pod runs, times its GPUs) of all training and evaluation
    pods of the update within the last 24 hours. Once they are used, no Job with a GPU is created or
    resumed, and no run starts by itself, until enough of them are older than that. A Job that runs
    is not ended: the sum may exceed the limit by what it uses, which activeDeadline limits. A
    change counts at once, also for a run in progress. Default: no limit."""


class UpdateTraining(Training):
    """How a candidate is trained from the live weights."""

    compute: UpdateCompute = UpdateCompute()
    """Resources and placement of the training pods. Default: 1 core, 4Gi, no GPU."""
    limits: UpdateLimits = UpdateLimits()
    """Limits on running time, number of attempts and GPU seconds. Default: 24h, 3 attempts and any
    number of GPU seconds."""

    def of_one_run(self) -> Training:
        """Return the part that a recipe repeats: neither placement nor budget of the update."""
        compute = {name: getattr(self.compute, name) for name in Compute.model_fields}
        limits = {name: getattr(self.limits, name) for name in Limits.model_fields}
        own: dict[str, Any] = {
            "compute": Compute.model_construct(**compute),
            "limits": Limits.model_construct(**limits),
        }
        return Training.model_construct(
            **{name: own.get(name, getattr(self, name)) for name in Training.model_fields}
        )


@cel(
    "duration(self.pollInterval) >= duration('1m')",
    "pollInterval must be at least 1m: each probe is a Job; 30m is usual",
    "pollInterval",
)
class OnData(Model):
    """Probe for new data at an interval."""

    poll_interval: Duration = "30m"
    """Time between two probes, at least 1m. The probes of all updates are spread over the interval.
    Each probe is a short Job without a GPU. Default 30m."""


@cel(
    "!has(self.timeZone) || has(self.schedule)",
    "timeZone goes with schedule; set schedule or remove timeZone",
)
class Trigger(Model):
    """When to probe for new data and start a run.

    The annotation springtide.dev/request=run@<token> starts a run at any time.
    """

    schedule: Annotated[
        str | None,
        Field(
            max_length=128,
            pattern=r"^(@(hourly|daily|midnight|weekly|monthly|yearly|annually)"
            r"|[!-~]+([ \t]+[!-~]+){4})$",
        ),
    ] = None
    """Cron expression of five fields, such as "0 3 * * *", or @hourly, @daily (@midnight), @weekly,
    @monthly, @yearly (@annually). Default: no schedule."""
    time_zone: Annotated[
        str | None, Field(max_length=64, pattern=r"^[A-Za-z][A-Za-z0-9_+/-]*$")
    ] = None
    """Time zone of the schedule, such as Europe/Berlin. Default: UTC."""
    on_data: OnData | None = None
    """Probe for new data at an interval; {} for the default interval. Default: no interval."""
    cooldown: Duration = "0s"
    """Minimum time between the end of a run and the start of the next. Default 0s."""
    max_runs_per_day: Annotated[int | None, Field(ge=1, le=1000)] = None
    """Maximum number of runs started within 24 hours. Default: no limit."""


@cel(
    "!self.uri.matches('^file:///(springtide|tmp|dev|proc|sys)?(/|$)')",
    "uri must name a folder, not in /springtide, /tmp, /dev, /proc or /sys: the pods of"
    " Springtide use them; choose another such as file:///models",
    "uri",
)
@cel(
    "self.uri.startsWith('file:') == has(self.volume)",
    "set volume if and only if uri begins with file://: it is mounted there, and an object store"
    " needs none",
)
class Storage(Model):
    """Where generations, manifests, checkpoints and reports are stored."""

    uri: Uri
    """Folder, such as file:///models or s3://bucket/models (also gs://, az://). A claim is mounted
    there in the pods of Springtide; the serving Deployment must mount it at the same path. An
    object store must support conditional writes, which the import checks; its endpoint and
    credentials are in data.secretName. Immutable."""
    volume: VolumeClaim | None = None
    """The claim; present if and only if uri begins with file://. It must be ReadWriteMany if pods
    run on several nodes."""


class History(Model):
    """How many old generations are kept.

    The live, the previous and a pinned generation, the one that maxCumulativeRegression compares
    with and the one with the highest number are always kept.
    """

    generations: Annotated[int, Field(ge=1, le=100)] = 10
    """Number of promoted generations to keep, with their weights. Default 10."""
    rejected: Annotated[int, Field(ge=0, le=100)] = 5
    """Number of rejected, failed, retired and rolled back generations to keep. Default 5."""


@cel_rules(*MODEL, *RETENTION, *METRICS, *TASKS, *HOLDOUTS, *PLACES)
class UpdateSpec(Model):
    """Which model to update, from which data, and how to train, evaluate and roll it out."""

    mode: Literal["Enforce", "Observe", "TrainOnly"] = "Enforce"
    """Enforce: train, evaluate, and roll out what passes the gate. Observe: train and evaluate, and
    report what would be rolled out; no Deployment is changed, nothing waits for approval.
    TrainOnly: train and store, without a verdict. In both the candidate is retired, and the next
    window begins at the same row. A change applies to the run in progress, too; a rollout that has
    started is completed or rolled back. Default Enforce."""
    suspend: bool = False
    """Suspend the update: no new run starts and a running Job is suspended. A rollout that has
    started is completed or rolled back. Default false."""
    model: ModelSpec
    """The model that is updated."""
    data: Data
    """The training data, and how it is cut into windows."""
    trigger: Trigger = Trigger()
    """When to probe for new data and start a run. Default: only by request."""
    training: UpdateTraining = UpdateTraining()
    """How a candidate is trained from the live weights. Default: one epoch over all weights except
    the word embeddings."""
    evaluation: Evaluation = Evaluation()
    """On which data candidate and live model are scored. Default: on the holdout."""
    gate: UpdateGate
    """The rules that a candidate must pass before it is rolled out, and who approves it then."""
    rollout: Rollout
    """How an accepted generation is rolled out to the serving pods."""
    serving: Serving | None = None
    """The form in which generations are evaluated and served. Default: the weights as they were
    trained. A change counts for the next generation."""
    tracking: Tracking | None = None
    """Experiment trackers that training and evaluation report to; a change counts for the next pod.
    Default: none."""
    storage: Storage
    """Where generations, manifests, checkpoints and reports are stored."""
    history: History = History()
    """How many old generations are kept. Default: 10 promoted and 5 others."""
    deletion_policy: Literal["Orphan", "Delete"] = "Orphan"
    """What happens to the generations when the update is deleted. Orphan: they are kept, and a new
    update of the same name adopts them. Delete: they are deleted. Default Orphan."""
