"""What people declare: the spec of an `IncrementalUpdate`, field by field.

Descriptions are the documentation of `kubectl explain`. Defaults live here, once; the API server
applies those of plain fields, the operator those of whole blocks. The data's own types are in
`data_spec`, training's in `training_spec`, judging's in `gate_spec`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from springtide_api.data_spec import Data, VolumeClaim
from springtide_api.gate_spec import Evaluation, Gate
from springtide_api.schema import Digest, Duration, Label, Model, Name, ObjectName, Time, Uri, cel
from springtide_api.training_spec import Training


class InitialModel(Model):
    """The model to begin with: any Hugging Face folder with safetensors weights.

    It becomes generation 0 by an import Job that computes the digest. A model without a
    classification head gets a seeded one, once, at import; such a generation 0 is never served.
    """

    uri: Uri
    """Folder of the model, such as file:///models/minilm."""
    digest: Digest | None = None
    """Digest that the folder must have after import; a different one is refused. Default: any."""
    trained_through: Time | None = None
    """End of the data that this model has seen. Rows from here on are new. Default: all rows are
    new."""


@cel(
    "self.labels.all(a, self.labels.exists_one(b, a == b))",
    "labels must be unique; remove the repeated one",
)
class ModelSpec(Model):
    """The model to keep fresh."""

    task: Literal["Classification"] = "Classification"
    """Classification: click, recommendation, promotion, sentiment, intent. Default
    Classification."""
    initial: InitialModel
    """Where the model to begin with lies, and what it has seen. Immutable."""
    labels: Annotated[list[Label], Field(min_length=2, max_length=256)]
    """Label names as the data spells them. With two labels, the second is the positive one.
    Labels are append-only."""
    max_length: Annotated[int, Field(ge=8, le=8192)] = 128
    """Tokens kept of each example. Default 128."""


@cel(
    "duration(self.pollInterval) >= duration('1m')",
    "pollInterval must be at least 1m: each look is a Job; 30m is usual",
    "pollInterval",
)
class OnData(Model):
    """Look for new data again and again."""

    poll_interval: Duration = "30m"
    """Time between two looks, at least 1m, spread over the updates of the cluster. Default 30m.
    Each look is a short Job without a GPU."""


@cel(
    "!has(self.timeZone) || has(self.schedule)",
    "timeZone goes with schedule; set schedule or remove timeZone",
)
class Trigger(Model):
    """When to look for data and start a run.

    The annotation springtide.dev/request: run@<token> starts one at any time.
    """

    schedule: Annotated[
        str | None,
        Field(
            max_length=128,
            pattern=r"^(@(hourly|daily|midnight|weekly|monthly|yearly|annually)|\S+(\s+\S+){4})$",
        ),
    ] = None
    """Cron expression of five fields, such as "0 3 * * *", or @hourly, @daily (@midnight), @weekly,
    @monthly, @yearly (@annually). Default: no schedule."""
    time_zone: Annotated[
        str | None, Field(max_length=64, pattern=r"^[A-Za-z][A-Za-z0-9_+/-]*$")
    ] = None
    """Time zone of the schedule, such as Europe/Berlin. Default: UTC."""
    on_data: OnData | None = None
    """Look for new data at an interval; empty ({}) for its default. Default: do not look."""
    cooldown: Duration = "0s"
    """Time to wait after the end of a run before the next one starts. Default 0s."""
    max_runs_per_day: Annotated[int | None, Field(ge=1, le=1000)] = None
    """Runs started within 24 hours, at most. Default: no limit."""


class TargetRef(Model):
    """A Deployment in the namespace of the update."""

    kind: Literal["Deployment"] = "Deployment"
    """Kind of the target. Default Deployment."""
    name: ObjectName
    """Name of the Deployment."""


@cel(
    "self.uri != self.digest",
    "uri and digest must be different variables; rename one",
    "uri",
)
class TargetEnv(Model):
    """Names of the environment variables by which the server learns its model."""

    uri: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = "MODEL_URI"
    """Variable that gets the folder of the model. Default MODEL_URI."""
    digest: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = (
        "MODEL_DIGEST"
    )
    """Variable that gets the digest that the model must have. Default MODEL_DIGEST."""


class Target(Model):
    """A container that serves the model.

    Springtide owns two environment variables of it, three labels and three annotations of its
    Deployment, nothing else.
    """

    target_ref: TargetRef
    """The Deployment that serves the model, and only this update's."""
    container: Name
    """Container of the Deployment that serves the model."""
    env: TargetEnv = TargetEnv()
    """Names of the environment variables. Default: MODEL_URI and MODEL_DIGEST."""


class Strategy(Model):
    """How the pods of the targets are replaced."""

    type: Literal["RollingUpdate"] = "RollingUpdate"
    """RollingUpdate: the Deployment's own strategy decides. Default RollingUpdate."""


@cel(
    "self.targets.all(a, self.targets.exists_one(b, a.targetRef.name == b.targetRef.name))",
    "targets must name different Deployments; remove the repeated one",
)
@cel(
    "duration(self.deadline) >= duration('10s')",
    "deadline must be at least 10s: new pods need time to become available; 10m is usual",
    "deadline",
)
class Rollout(Model):
    """How an accepted generation reaches the pods that serve."""

    targets: Annotated[list[Target], Field(min_length=1, max_length=4)]
    """Deployments that serve this model. Several move together: all are promoted or none. One that
    is taken out of the list keeps what it serves, and its weights are kept; remove its label
    springtide.dev/update to let it go."""
    strategy: Strategy = Strategy()
    """How the pods of the targets are replaced. Default: a RollingUpdate."""
    deadline: Duration = "10m"
    """Time for the new pods to become available; then all targets go back. Default 10m."""


@cel(
    "!self.uri.matches('^file:///(springtide|tmp|dev|proc|sys)?(/|$)')",
    "uri must name a folder, not in /springtide, /tmp, /dev, /proc or /sys: our pods use them;"
    " choose another such as file:///models",
    "uri",
)
class Storage(Model):
    """Where generations, manifests, checkpoints and reports live."""

    uri: Uri
    """Folder on the claim, such as file:///models. The claim is mounted there in our pods; the
    server's Deployment mounts it at the same place."""
    volume: VolumeClaim
    """The claim. ReadWriteMany where pods run on several nodes."""


class History(Model):
    """How many old generations are kept. Live, previous and the highest number always are."""

    generations: Annotated[int, Field(ge=1, le=100)] = 10
    """Promoted generations to keep, with their weights. Default 10."""
    rejected: Annotated[int, Field(ge=0, le=100)] = 5
    """Rejected, failed and aborted generations to keep. Default 5."""


@cel(
    "self.model.initial == oldSelf.model.initial",
    "model.initial is immutable; create a new IncrementalUpdate for another initial model",
)
@cel(
    "oldSelf.model.labels.all(l, self.model.labels.indexOf(l) == oldSelf.model.labels.indexOf(l))",
    "model.labels is append-only; add labels at the end and remove or reorder none",
)
@cel(
    "self.gate.rules.all(r, has(self.evaluation) && has(self.evaluation.datasets)"
    " ? self.evaluation.datasets.exists(d, d.name == r.dataset) : r.dataset == 'holdout')",
    "gate.rules[].dataset must name one of evaluation.datasets; without datasets there is one,"
    " holdout",
)
@cel(
    "has(self.data.source.columns.group)"
    " || !self.gate.rules.exists(r, r.metric.startsWith('ndcg'))",
    "a rule on ndcg needs data.source.columns.group; name the column with the ranking list",
)
@cel(
    "!has(self.evaluation) || !has(self.evaluation.datasets) || has(self.data.reserve)"
    " || !self.evaluation.datasets.exists(d, d.role == 'Historical')",
    "a dataset with role Historical needs data.reserve: it holds the reserved rows; set it, or"
    " remove the dataset",
)
@cel(
    "!has(self.evaluation) || !has(self.evaluation.datasets)"
    " || self.gate.rules.exists(r, r.severity == 'Required'"
    " && r.metric != 'ece' && (r.metric == 'log_loss' ? has(r.max) : has(r.min))"
    " && !self.evaluation.datasets.exists(d, d.name == r.dataset && d.role == 'Historical'))",
    "gate.rules needs a Required rule with min (log_loss: max) on a dataset whose role is"
    " not Historical: the first generation has no history, and nothing else could judge it; add"
    " one such as {name: floor, metric: auc, dataset: holdout, min: '0.6'}",
)
@cel(
    "has(self.data.volume) || self.data.source.uri == self.storage.uri"
    " || self.data.source.uri.startsWith(self.storage.uri"
    " + (self.storage.uri.endsWith('/') ? '' : '/'))",
    "data.source.uri must lie below storage.uri where data.volume is not set; set data.volume to"
    " the claim that holds the data",
)
@cel(
    "!has(self.data.volume) || 'file://' + self.data.volume.mountPath != self.storage.uri",
    "data.volume.mountPath and storage.uri must be different folders; each is a mount of its own",
)
@cel(
    "self.storage.uri == oldSelf.storage.uri",
    "storage.uri is immutable; the generations already kept would be lost",
)
class UpdateSpec(Model):
    """What to keep fresh, from which data, trained how, judged how and rolled out how."""

    mode: Literal["Enforce"] = "Enforce"
    """Enforce: train, judge and roll out what passed the gate. Default Enforce."""
    suspend: bool = False
    """Start no new runs; suspend a running Job; hold a rollout between steps. A begun roll
    finishes or reverts. Default false."""
    model: ModelSpec
    """The model to keep fresh."""
    data: Data
    """The stream of examples, and how it is cut into windows."""
    trigger: Trigger = Trigger()
    """When to look for data and start a run. Default: only by request."""
    training: Training = Training()
    """How a candidate is trained from the live weights. Default: one epoch over all weights but the
    word embeddings."""
    evaluation: Evaluation = Evaluation()
    """On which data candidate and live model are compared. Default: on the holdout."""
    gate: Gate
    """What a candidate must prove before it may be served."""
    rollout: Rollout
    """How an accepted generation reaches the pods that serve."""
    storage: Storage
    """Where generations, manifests, checkpoints and reports live."""
    history: History = History()
    """How many old generations are kept. Default: 10 promoted, 5 others."""
    deletion_policy: Literal["Orphan", "Delete"] = "Orphan"
    """What happens to the generations when the update is deleted. Orphan keeps them, and a
    recreated update of the same name adopts them. Default Orphan."""
