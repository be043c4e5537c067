"""The spec of an `IncrementalUpdate`.

The docstrings of the fields are the text of `kubectl explain`. Defaults are defined here only: the
API server applies those of scalar fields, the operator those of whole blocks. The types of model,
data, training, gate and rollout are in the modules of these names.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from springtide_api.placement import RESERVED, Placement
from springtide_api.schema import Duration, Model, Uri, cel
from springtide_api.update.data import Data, VolumeClaim
from springtide_api.update.gate import Evaluation, UpdateGate
from springtide_api.update.model import ModelSpec, Serving
from springtide_api.update.rollout import Rollout
from springtide_api.update.tracking import Tracking
from springtide_api.update.training import Compute, Limits, Training


@cel(
    "!has(self.podLabels) || !self.podLabels.exists(key, key.matches('^(springtide[.]dev/"
    "|batch[.]kubernetes[.]io/|controller-uid|job-name|kueue[.]x-k8s[.]io/|jobset[.]sigs[.]k8s[.]io/)'))",
    RESERVED,
)
class UpdateCompute(Placement, Compute):
    """Resources and placement of the training pods."""

    def placement(self) -> Placement:
        """Return where pods run: it has no part in what they compute."""
        return Placement.model_construct(
            **{name: getattr(self, name) for name in Placement.model_fields}
        )


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
    "(has(self.model.embedding) && has(self.model.embedding.vectors))"
    " == (has(oldSelf.model.embedding) && has(oldSelf.model.embedding.vectors))"
    " && (!has(self.model.embedding) || !has(self.model.embedding.vectors)"
    " || self.model.embedding.vectors == oldSelf.model.embedding.vectors)",
    "model.embedding.vectors is immutable: the vectors of a live index are of its kind; create a"
    " new IncrementalUpdate for others",
)
@cel(
    "has(self.model.keepLayers) == has(oldSelf.model.keepLayers)"
    " && (!has(self.model.keepLayers) || self.model.keepLayers == oldSelf.model.keepLayers)",
    "model.keepLayers is immutable: the import removes layers once; create a new"
    " IncrementalUpdate for other layers",
)
@cel(
    "!has(self.model.keepLayers) || !has(self.training)"
    " || !has(self.training.hyperparameters) || !has(self.training.hyperparameters.freeze)"
    " || self.training.hyperparameters.freeze.lowerLayers <= size(self.model.keepLayers)",
    "training.hyperparameters.freeze.lowerLayers must be at most the number of model.keepLayers;"
    " lower it",
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
    "!has(self.training) || !has(self.training.retention)"
    " || !has(self.training.retention.replay)"
    " || (has(self.training.retention.replay.rowsPerClass)"
    " ? self.training.retention.replay.rowsPerClass : 10)"
    " * (has(self.model.labels) ? size(self.model.labels)"
    " : has(self.model.ranking) ? size(self.model.ranking.gains) : 0)"
    " <= self.training.retention.replay.bufferRows",
    "training.retention.replay.bufferRows must be at least rowsPerClass (10 if not set) times the"
    " number of labels; raise bufferRows, or lower rowsPerClass",
)
@cel(
    "!(self.model.task in ['Regression', 'Embedding', 'CausalLM', 'MaskedLM'])"
    " || !has(self.training)"
    " || !has(self.training.retention) || !has(self.training.retention.replay)"
    " || (!has(self.training.retention.replay.rowsPerClass)"
    " && (double(self.training.retention.replay.ratio) > 0.0"
    " || (has(self.training.retention.replay.rowsPerSlice)"
    " && self.training.retention.replay.rowsPerSlice > 0)))",
    "training.retention.replay of Regression, Embedding, CausalLM and MaskedLM has no rowsPerClass,"
    " because their rows have no classes: remove it, and set ratio or rowsPerSlice above 0",
)
@cel(
    "!has(self.training) || !has(self.training.retention)"
    " || !has(self.training.retention.replay)"
    " || !has(self.training.retention.replay.rowsPerSlice)"
    " || has(self.data.source.columns.slice)",
    "training.retention.replay.rowsPerSlice needs data.source.columns.slice; name the column, or"
    " remove rowsPerSlice",
)
@cel(
    "self.model.task != 'Regression' || !has(self.training) || !has(self.training.retention)"
    " || !has(self.training.retention.distillation)"
    " || !has(self.training.retention.distillation.temperature)",
    "training.retention.distillation of Regression has no temperature: it compares numbers, not"
    " probabilities; remove it",
)
@cel(
    "!(self.model.task in ['Embedding', 'CausalLM', 'MaskedLM']) || !has(self.training)"
    " || !has(self.training.retention)"
    " || (!has(self.training.retention.distillation) && !has(self.training.retention.ewc))",
    "training.retention.distillation and ewc are not available for tasks Embedding, CausalLM and"
    " MaskedLM, whose outputs are vectors and tokens; remove them",
)
@cel(
    "self.gate.rules.all(r, has(self.evaluation) && has(self.evaluation.datasets)"
    " ? self.evaluation.datasets.exists(d, d.name == r.dataset) : r.dataset == 'holdout')",
    "gate.rules[].dataset must name one of evaluation.datasets; without datasets there is one,"
    " holdout",
)
@cel(
    "self.gate.rules.all(r, r.metric in ['rmse', 'mae', 'mape', 'wape', 'r2']"
    " ? self.model.task == 'Regression' : r.metric == 'perplexity'"
    " ? self.model.task in ['CausalLM', 'MaskedLM'] : r.metric == 'masked_accuracy'"
    " ? self.model.task == 'MaskedLM' : r.metric.startsWith('recall')"
    " ? self.model.task == 'Embedding' : r.metric.startsWith('mrr')"
    " ? self.model.task in ['Ranking', 'Embedding'] : r.metric == 'map'"
    " ? self.model.task == 'Ranking' : r.metric.startsWith('ndcg')"
    " ? self.model.task in ['Ranking', 'Classification'] : self.model.task == 'Classification')",
    "gate.rules[].metric must be one of model.task: rmse, mae, mape, wape and r2 for Regression,"
    " ndcg@<k>, mrr, mrr@<k> and map for Ranking, recall@<k>, mrr and mrr@<k> for Embedding,"
    " perplexity for CausalLM and MaskedLM, masked_accuracy for MaskedLM, the others and ndcg@<k>"
    " for Classification",
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
    "!(self.model.task in ['Regression', 'Embedding', 'CausalLM', 'MaskedLM'])"
    " || !self.gate.rules.exists(r, has(r.minPositives))",
    "a rule of Regression, Embedding, CausalLM or MaskedLM has no minPositives: no label is the"
    " positive one; remove it",
)
@cel(
    "!has(self.training) || !has(self.training.earlyStopping)"
    " || !has(self.training.earlyStopping.metric)"
    " || (self.training.earlyStopping.metric in ['rmse', 'mae'] ? ['Regression']"
    " : self.training.earlyStopping.metric == 'mrr' ? ['Ranking', 'Embedding']"
    " : self.training.earlyStopping.metric == 'recall@10' ? ['Embedding']"
    " : self.training.earlyStopping.metric == 'perplexity' ? ['CausalLM', 'MaskedLM']"
    " : self.training.earlyStopping.metric in ['ndcg@10', 'loss'] ? ['Ranking']"
    " : ['Classification']).exists(t, t == self.model.task)",
    "training.earlyStopping.metric must be one of model.task: rmse and mae for Regression, ndcg@10,"
    " mrr and loss for Ranking, mrr and recall@10 for Embedding, perplexity for CausalLM and"
    " MaskedLM, the others for Classification",
)
@cel(
    "!has(self.training) || !has(self.training.unlabelled)"
    " || (self.model.task == 'Classification' && (!has(self.model.classification)"
    " || !self.model.classification.multiLabel))",
    "training.unlabelled needs task Classification with one label for each row: only there a row"
    " has a probability to compare with the threshold; remove it",
)
@cel(
    "self.model.task != 'CausalLM' || !has(self.data.source.columns.textPair)",
    "task CausalLM has no data.source.columns.textPair: the prompt is text, or the features that"
    " template combines, and the response is label; remove it",
)
@cel(
    "self.model.task != 'CausalLM' || !has(self.training) || !has(self.training.robustness)"
    " || !has(self.training.robustness.augmentation)",
    "training.robustness.augmentation is not available for task CausalLM: a changed response would"
    " be learnt as it is; remove augmentation",
)
@cel(
    "!(self.model.task in ['CausalLM', 'MaskedLM']) || !has(self.training)"
    " || !has(self.training.parallelism) || self.training.parallelism.type != 'FSDP'",
    "training.parallelism.type FSDP is not available for tasks CausalLM and MaskedLM; set it to"
    " DDP",
)
@cel(
    "self.model.task != 'CausalLM' || !has(self.serving) || !has(self.serving.optimise)"
    " || !has(self.serving.optimise.quantization)",
    "serving.optimise.quantization is not available for task CausalLM: the quantized form has no"
    " cache of earlier tokens, without which each new token would cost a whole pass; remove it",
)
@cel(
    "(self.model.task == 'MaskedLM') != has(self.data.source.columns.label)",
    "set data.source.columns.label, but not for task MaskedLM, which learns from the text alone;"
    " name the column, or remove it",
)
@cel(
    "(self.model.task == 'MaskedLM') == (size(self.rollout.targets) == 0)",
    "rollout.targets needs at least one Deployment, but is [] for task MaskedLM, which serves"
    " nothing; add a target, or set it to []",
)
@cel(
    "self.model.task != 'MaskedLM' || !has(self.serving)",
    "task MaskedLM has no serving: its weights answer no requests; remove it",
)
@cel(
    "self.model.task != 'MaskedLM' || !has(self.data.source.columns.servedGeneration)",
    "task MaskedLM has no data.source.columns.servedGeneration: no row was served by one of its"
    " generations; remove it",
)
@cel(
    "self.model.task != 'MaskedLM' || !has(self.training) || !has(self.training.robustness)"
    " || !has(self.training.robustness.augmentation)",
    "training.robustness.augmentation is not available for task MaskedLM, which hides other tokens"
    " in each epoch by itself; remove augmentation",
)
@cel(
    "self.model.task in ['Classification', 'Ranking', 'Regression'] || !has(self.training)"
    " || !has(self.training.method) || self.training.method.type != 'Adapter'",
    "method Adapter is for tasks Classification, Ranking and Regression; set training.method.type"
    " to LoRA or Full",
)
@cel(
    "!(self.model.task in ['Embedding', 'MaskedLM']) || !has(self.training)"
    " || !has(self.training.method)"
    " || !(self.training.method.type in ['PromptTuning', 'PrefixTuning'])",
    "methods PromptTuning and PrefixTuning are for tasks Classification, Ranking, Regression and"
    " CausalLM; set training.method.type to LoRA or Full",
)
@cel(
    "self.model.task != 'Embedding' || has(self.data.source.columns.textPair)",
    "task Embedding needs data.source.columns.text and textPair: the query and the document; name"
    " both columns",
)
@cel(
    "!has(self.model.embedding) || self.model.embedding.trainTower != 'Both'"
    " || !has(self.training) || !has(self.training.compute)"
    " || (self.training.compute.gpusPerNode <= 1 && self.training.compute.nodes == 1)",
    "model.embedding.trainTower Both is trained on one GPU: each query is compared with the"
    " documents of all rows of a step; set training.compute.gpusPerNode to 0 or 1, and nodes to 1",
)
@cel(
    "has(self.storage.volume) || !has(self.training) || !has(self.training.compute)"
    " || self.training.compute.nodes == 1 || !has(self.training.parallelism)"
    " || self.training.parallelism.type != 'FSDP'",
    "training.parallelism.type FSDP on several nodes needs storage.volume: each pod writes its part"
    " of a checkpoint into a folder that all of them mount; set type to DDP, or"
    " training.compute.nodes to 1",
)
@cel(
    "!has(self.model.embedding) || self.model.embedding.trainTower != 'Both'"
    " || !has(self.training) || !has(self.training.robustness)"
    " || !has(self.training.robustness.adversarial)",
    "training.robustness.adversarial excludes model.embedding.trainTower Both: a disturbed query"
    " would need the gradients of all documents of its step a second time; remove adversarial",
)
@cel(
    "!has(self.model.embedding) || self.model.embedding.trainTower != 'Both'"
    " || (has(oldSelf.model.embedding) && oldSelf.model.embedding.trainTower == 'Both')",
    "model.embedding.trainTower cannot become Both: the queries were trained alone, and Both needs"
    " one model for queries and documents; create a new IncrementalUpdate",
)
@cel(
    "self.model.task != 'Embedding' || !has(self.training) || !has(self.training.parallelism)"
    " || self.training.parallelism.type != 'FSDP'",
    "training.parallelism.type FSDP is not available for task Embedding, whose encoders fit one"
    " GPU; set it to DDP",
)
@cel(
    "self.model.task != 'Embedding' || !has(self.data.window)"
    " || !has(self.data.window.rowsPerShard)",
    "data.window.rowsPerShard is not available for task Embedding: the rank of a query needs the"
    " documents of all rows; remove rowsPerShard",
)
@cel(
    "self.model.task != 'Embedding' || !has(self.serving) || !has(self.serving.optimise)",
    "serving.optimise has no form for task Embedding: the vectors of a live index are those of the"
    " weights as they were trained; remove optimise",
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
    " && r.metric != 'ece'"
    " && (r.metric in ['log_loss', 'rmse', 'mae', 'mape', 'wape', 'perplexity']"
    " ? has(r.max) : has(r.min))"
    " && !self.evaluation.datasets.exists(d, d.name == r.dataset && d.role == 'Historical'))",
    "gate.rules needs a Required rule with min (log_loss and errors: max) on a dataset whose role"
    " is not Historical: the first generation has no historical rows, so no other rule can"
    " decide on it; add one such as {name: floor, metric: auc, dataset: holdout, min: '0.6'}",
)
@cel(
    "has(self.data.volume) || !self.data.source.uri.startsWith('file:')"
    " || self.data.source.uri == self.storage.uri"
    " || self.data.source.uri.startsWith(self.storage.uri"
    " + (self.storage.uri.endsWith('/') ? '' : '/'))",
    "data.source.uri must lie below storage.uri where data.volume is not set; set data.volume to"
    " the claim that holds the data",
)
@cel(
    "has(self.data.volume) || has(self.storage.volume)"
    " || !self.model.initial.uri.startsWith('file:')",
    "model.initial.uri begins with file://, but neither data.volume nor storage.volume is set, so"
    " the pods mount no claim; copy the model to an object store, or set data.volume",
)
@cel(
    "!has(self.data.volume) || 'file://' + self.data.volume.mountPath != self.storage.uri",
    "data.volume.mountPath and storage.uri must be different folders; each is a mount of its own",
)
@cel(
    "!has(self.rollout.pin) || !has(self.mode) || self.mode == 'Enforce'",
    "rollout.pin needs mode Enforce: the other modes change no target; change the mode, or remove"
    " the pin",
)
@cel(
    "self.storage.uri == oldSelf.storage.uri",
    "storage.uri is immutable; the generations already kept would be lost",
)
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
