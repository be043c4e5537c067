"""The spec of an `IncrementalUpdate`.

The docstrings of the fields are the text of `kubectl explain`. Defaults are defined here only: the
API server applies those of scalar fields, the operator those of whole blocks. The types of data,
training and gate are in `data`, `training` and `gate`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from springtide_api.schema import Digest, Duration, Label, Model, Name, ObjectName, Time, Uri, cel
from springtide_api.update.data import Data, VolumeClaim
from springtide_api.update.gate import Evaluation, Gate
from springtide_api.update.ranking import RankingOptions
from springtide_api.update.task import ClassificationOptions, RegressionOptions
from springtide_api.update.training import Training


class InitialModel(Model):
    """The initial model: any Hugging Face folder with safetensors weights.

    An import Job validates it, computes its digest and makes it generation 0. A model without a
    classification head gets a new, seeded head at import; such a generation 0 is never served.
    """

    uri: Uri
    """Folder of the model, such as file:///models/minilm."""
    digest: Digest | None = None
    """Expected digest of the imported model; the import fails if it differs. Default: any
    digest."""
    trained_through: Time | None = None
    """End of the data that the model was trained on. Rows from this time on are new. Default: all
    rows are new."""


@cel(
    "self.task != 'Classification' || has(self.labels)",
    "task Classification needs labels: the label names, spelled as in the data",
)
@cel(
    "self.task != 'Regression' || !has(self.labels)",
    "task Regression has no labels: the label column holds numbers; remove labels",
)
@cel(
    "self.task == 'Classification' || !has(self.classification)",
    "classification belongs to task Classification; remove it, or change task",
)
@cel(
    "!has(self.classification) || !self.classification.multiLabel || !has(self.labels)"
    " || !self.labels.exists(l, l.contains(self.classification.separator))",
    "no label may contain classification.separator; choose another separator",
)
@cel(
    "self.task == 'Regression' || !has(self.regression)",
    "regression belongs to task Regression; remove it, or change task",
)
@cel(
    "(self.task == 'Ranking') == has(self.ranking)",
    "set ranking if and only if task is Ranking; it has the gain of each label",
)
@cel(
    "self.task != 'Ranking' || !has(self.labels)",
    "task Ranking has ranking.gains in place of labels; remove labels",
)
@cel(
    "!has(self.labels) || self.labels.all(a, self.labels.exists_one(b, a == b))",
    "labels must be unique; remove the repeated one",
)
class ModelSpec(Model):
    """The model that is updated."""

    task: Literal["Classification", "Regression", "Ranking"] = "Classification"
    """Task of the model. Immutable. Classification: one of several labels, for example clicks,
    recommendations, promotions, sentiment or intent. Regression: a number, for example a price.
    Ranking: the order of the rows of a group, for example the results of a query. Default
    Classification."""
    initial: InitialModel
    """The initial model: its folder, and the data that it was trained on. Immutable."""
    labels: Annotated[list[Label] | None, Field(min_length=2, max_length=256)] = None
    """Label names, spelled as in the data; for Classification, which requires them. With two
    labels, the second is the positive one. Append-only: labels can be added at the end, never
    removed or reordered."""
    classification: ClassificationOptions | None = None
    """Options of Classification. Default: a row has exactly one label."""
    regression: RegressionOptions | None = None
    """Options of Regression. Default: mean squared error."""
    ranking: RankingOptions | None = None
    """Options of Ranking; present if and only if task is Ranking."""
    max_length: Annotated[int, Field(ge=8, le=8192)] = 128
    """Maximum number of tokens of an example; longer examples are truncated. Default 128."""


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
    """Probe for new data at an interval; {} for the default interval. Default: no interval."""
    cooldown: Duration = "0s"
    """Minimum time between the end of a run and the start of the next. Default 0s."""
    max_runs_per_day: Annotated[int | None, Field(ge=1, le=1000)] = None
    """Maximum number of runs started within 24 hours. Default: no limit."""


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
    """Names of the environment variables that tell the server which model to load."""

    uri: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = "MODEL_URI"
    """Variable that is set to the folder of the model. Default MODEL_URI."""
    digest: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = (
        "MODEL_DIGEST"
    )
    """Variable that is set to the expected digest of the model. Default MODEL_DIGEST."""


class Target(Model):
    """A container of a Deployment that serves the model.

    Springtide owns two environment variables of the container, and three labels and three
    annotations of the Deployment. It changes nothing else.
    """

    target_ref: TargetRef
    """The Deployment. It can be the target of one update only."""
    container: Name
    """Name of the container that serves the model."""
    env: TargetEnv = TargetEnv()
    """Names of the environment variables. Default: MODEL_URI and MODEL_DIGEST."""


class Strategy(Model):
    """Strategy of the rollout."""

    type: Literal["RollingUpdate"] = "RollingUpdate"
    """RollingUpdate: the strategy of the Deployment itself applies. Default RollingUpdate."""


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
    """How an accepted generation is rolled out to the serving pods."""

    targets: Annotated[list[Target], Field(min_length=1, max_length=4)]
    """Deployments that serve the model. Several targets are promoted or rolled back together. A
    target that is removed from the list continues to serve its generation, whose weights are
    kept until the label springtide.dev/update is removed from the Deployment."""
    strategy: Strategy = Strategy()
    """Strategy of the rollout. Default: RollingUpdate."""
    deadline: Duration = "10m"
    """Maximum time for the new pods to become available; after that all targets are rolled back.
    Default 10m."""


@cel(
    "!self.uri.matches('^file:///(springtide|tmp|dev|proc|sys)?(/|$)')",
    "uri must name a folder, not in /springtide, /tmp, /dev, /proc or /sys: the pods of"
    " Springtide use them; choose another such as file:///models",
    "uri",
)
class Storage(Model):
    """Where generations, manifests, checkpoints and reports are stored."""

    uri: Uri
    """Folder, such as file:///models. The claim is mounted there in the pods of Springtide; the
    serving Deployment must mount it at the same path. Immutable."""
    volume: VolumeClaim
    """The claim. It must be ReadWriteMany if pods run on several nodes."""


class History(Model):
    """How many old generations are kept.

    The live and the previous generation and the one with the highest number are always kept.
    """

    generations: Annotated[int, Field(ge=1, le=100)] = 10
    """Number of promoted generations to keep, with their weights. Default 10."""
    rejected: Annotated[int, Field(ge=0, le=100)] = 5
    """Number of rejected, failed, retired and rolled back generations to keep. Default 5."""


@cel(
    "self.model.initial == oldSelf.model.initial",
    "model.initial is immutable; create a new IncrementalUpdate for another initial model",
)
@cel(
    "self.model.task == oldSelf.model.task",
    "model.task is immutable; create a new IncrementalUpdate for another task",
)
@cel(
    "(has(self.model.classification) && self.model.classification.multiLabel)"
    " == (has(oldSelf.model.classification) && oldSelf.model.classification.multiLabel)",
    "model.classification.multiLabel is immutable; create a new IncrementalUpdate",
)
@cel(
    "(has(self.model.regression) && has(self.model.regression.spread)"
    " ? self.model.regression.location + ' ' + self.model.regression.spread : '')"
    " == (has(oldSelf.model.regression) && has(oldSelf.model.regression.spread)"
    " ? oldSelf.model.regression.location + ' ' + oldSelf.model.regression.spread : '')",
    "model.regression.location and spread are immutable: every generation is in their unit; create"
    " a new IncrementalUpdate for others",
)
@cel(
    "!has(oldSelf.model.ranking) || !has(self.model.ranking)"
    " || oldSelf.model.ranking.gains.all(l, l in self.model.ranking.gains)",
    "model.ranking.gains must keep its labels: reserved rows of earlier windows have them; put the"
    " removed label back",
)
@cel(
    "!has(oldSelf.model.labels) || (has(self.model.labels) && oldSelf.model.labels.all(l,"
    " self.model.labels.indexOf(l) == oldSelf.model.labels.indexOf(l)))",
    "model.labels is append-only; add labels at the end and remove or reorder none",
)
@cel(
    "self.gate.rules.all(r, has(self.evaluation) && has(self.evaluation.datasets)"
    " ? self.evaluation.datasets.exists(d, d.name == r.dataset) : r.dataset == 'holdout')",
    "gate.rules[].dataset must name one of evaluation.datasets; without datasets there is one,"
    " holdout",
)
@cel(
    "self.gate.rules.all(r, r.metric in ['rmse', 'mae', 'mape', 'wape', 'r2']"
    " ? self.model.task == 'Regression' : r.metric.matches('^(mrr|map)')"
    " ? self.model.task == 'Ranking' : r.metric.startsWith('ndcg')"
    " ? self.model.task != 'Regression' : self.model.task == 'Classification')",
    "gate.rules[].metric must be one of model.task: rmse, mae, mape, wape and r2 for Regression,"
    " ndcg@<k>, mrr, mrr@<k> and map for Ranking, the others and ndcg@<k> for Classification",
)
@cel(
    "(has(self.model.classification) && self.model.classification.multiLabel)"
    " ? self.gate.rules.all(r, r.metric in ['auc', 'pr_auc', 'log_loss', 'macro_f1', 'micro_f1'])"
    " && !(has(self.training) && has(self.training.earlyStopping)"
    " && has(self.training.earlyStopping.metric)"
    " && self.training.earlyStopping.metric == 'accuracy')"
    " : !self.gate.rules.exists(r, r.metric == 'micro_f1')",
    "metrics with classification.multiLabel are auc, pr_auc, log_loss, macro_f1 and micro_f1;"
    " micro_f1 needs multiLabel",
)
@cel(
    "self.model.task != 'Regression' || !self.gate.rules.exists(r, has(r.minPositives))",
    "a rule of Regression has no minPositives: no label is the positive one; remove it",
)
@cel(
    "!has(self.training) || !has(self.training.earlyStopping)"
    " || !has(self.training.earlyStopping.metric)"
    " || (self.training.earlyStopping.metric in ['rmse', 'mae'] ? 'Regression'"
    " : self.training.earlyStopping.metric in ['ndcg@10', 'mrr', 'loss'] ? 'Ranking'"
    " : 'Classification') == self.model.task",
    "training.earlyStopping.metric must be one of model.task: rmse and mae for Regression, ndcg@10,"
    " mrr and loss for Ranking, the others for Classification",
)
@cel(
    "self.model.task != 'Ranking' || has(self.data.source.columns.group)",
    "task Ranking needs data.source.columns.group; name the column with the query or ranking list",
)
@cel(
    "!has(self.data.reserve) || has(self.data.source.columns.entity)"
    " || (self.model.task == 'Ranking' && has(self.data.source.columns.group))",
    "data.reserve needs data.source.columns.entity: entities are reserved, not rows; name the"
    " column with the shopper or query",
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
    " && r.metric != 'ece' && (r.metric in ['log_loss', 'rmse', 'mae', 'mape', 'wape']"
    " ? has(r.max) : has(r.min))"
    " && !self.evaluation.datasets.exists(d, d.name == r.dataset && d.role == 'Historical'))",
    "gate.rules needs a Required rule with min (log_loss and errors: max) on a dataset whose role"
    " is not Historical: the first generation has no historical rows, so no other rule can"
    " decide on it; add one such as {name: floor, metric: auc, dataset: holdout, min: '0.6'}",
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
    """Which model to update, from which data, and how to train, evaluate and roll it out."""

    mode: Literal["Enforce"] = "Enforce"
    """Enforce: train, evaluate, and roll out what passes the gate. Default Enforce."""
    suspend: bool = False
    """Suspend the update: no new run starts and a running Job is suspended. A rollout that has
    started is completed or rolled back. Default false."""
    model: ModelSpec
    """The model that is updated."""
    data: Data
    """The training data, and how it is cut into windows."""
    trigger: Trigger = Trigger()
    """When to probe for new data and start a run. Default: only by request."""
    training: Training = Training()
    """How a candidate is trained from the live weights. Default: one epoch over all weights except
    the word embeddings."""
    evaluation: Evaluation = Evaluation()
    """On which data candidate and live model are scored. Default: on the holdout."""
    gate: Gate
    """The rules that a candidate must pass before it is rolled out."""
    rollout: Rollout
    """How an accepted generation is rolled out to the serving pods."""
    storage: Storage
    """Where generations, manifests, checkpoints and reports are stored."""
    history: History = History()
    """How many old generations are kept. Default: 10 promoted and 5 others."""
    deletion_policy: Literal["Orphan", "Delete"] = "Orphan"
    """What happens to the generations when the update is deleted. Orphan: they are kept, and a new
    update of the same name adopts them. Delete: they are deleted. Default Orphan."""
