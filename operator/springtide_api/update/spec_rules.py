"""Rules between blocks of the spec of an `IncrementalUpdate`, in the order of the CRD.

Each is a CEL expression and the message of what it refuses. Rules within one block are at its type,
and those by task in `task_rules`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from springtide_api.schema import Rules

MODEL: Rules = (
    (
        "self.model.initial == oldSelf.model.initial",
        "model.initial is immutable; create a new IncrementalUpdate for another initial model",
    ),
    (
        "self.model.task == oldSelf.model.task",
        "model.task is immutable; create a new IncrementalUpdate for another task",
    ),
    (
        "(has(self.model.classification) && self.model.classification.multiLabel)"
        " == (has(oldSelf.model.classification) && oldSelf.model.classification.multiLabel)",
        "model.classification.multiLabel is immutable; create a new IncrementalUpdate",
    ),
    (
        "(has(self.model.regression) && has(self.model.regression.spread)"
        " ? self.model.regression.location + ' ' + self.model.regression.spread : '')"
        " == (has(oldSelf.model.regression) && has(oldSelf.model.regression.spread)"
        " ? oldSelf.model.regression.location + ' ' + oldSelf.model.regression.spread : '')",
        "model.regression.location and spread are immutable: every generation is in their unit;"
        " create a new IncrementalUpdate for others",
    ),
    (
        "(has(self.model.embedding) && has(self.model.embedding.vectors))"
        " == (has(oldSelf.model.embedding) && has(oldSelf.model.embedding.vectors))"
        " && (!has(self.model.embedding) || !has(self.model.embedding.vectors)"
        " || self.model.embedding.vectors == oldSelf.model.embedding.vectors)",
        "model.embedding.vectors is immutable: the vectors of a live index are of its kind; create"
        " a new IncrementalUpdate for others",
    ),
    (
        "has(self.model.keepLayers) == has(oldSelf.model.keepLayers)"
        " && (!has(self.model.keepLayers) || self.model.keepLayers == oldSelf.model.keepLayers)",
        "model.keepLayers is immutable: the import removes layers once; create a new"
        " IncrementalUpdate for other layers",
    ),
    (
        "!has(self.model.keepLayers) || !has(self.training)"
        " || !has(self.training.hyperparameters) || !has(self.training.hyperparameters.freeze)"
        " || self.training.hyperparameters.freeze.lowerLayers <= size(self.model.keepLayers)",
        "training.hyperparameters.freeze.lowerLayers must be at most the number of"
        " model.keepLayers; lower it",
    ),
    (
        "!has(oldSelf.model.ranking) || !has(self.model.ranking)"
        " || oldSelf.model.ranking.gains.all(l, l in self.model.ranking.gains)",
        "model.ranking.gains must keep its labels: reserved rows of earlier windows have them; put"
        " the removed label back",
    ),
    (
        "!has(oldSelf.model.labels) || (has(self.model.labels) && oldSelf.model.labels.all(l,"
        " self.model.labels.indexOf(l) == oldSelf.model.labels.indexOf(l)))",
        "model.labels is append-only; add labels at the end and remove or reorder none",
    ),
)
"""What may change of the model, and how many of its layers are trained."""

RETENTION: Rules = (
    (
        "!has(self.training) || !has(self.training.retention)"
        " || !has(self.training.retention.replay)"
        " || (has(self.training.retention.replay.rowsPerClass)"
        " ? self.training.retention.replay.rowsPerClass : 10)"
        " * (has(self.model.labels) ? size(self.model.labels)"
        " : has(self.model.ranking) ? size(self.model.ranking.gains) : 0)"
        " <= self.training.retention.replay.bufferRows",
        "training.retention.replay.bufferRows must be at least rowsPerClass (10 if not set) times"
        " the number of labels; raise bufferRows, or lower rowsPerClass",
    ),
    (
        "!(self.model.task in ['Regression', 'Embedding', 'CausalLM', 'MaskedLM'])"
        " || !has(self.training)"
        " || !has(self.training.retention) || !has(self.training.retention.replay)"
        " || (!has(self.training.retention.replay.rowsPerClass)"
        " && (double(self.training.retention.replay.ratio) > 0.0"
        " || (has(self.training.retention.replay.rowsPerSlice)"
        " && self.training.retention.replay.rowsPerSlice > 0)))",
        "training.retention.replay of Regression, Embedding, CausalLM and MaskedLM has no"
        " rowsPerClass, because their rows have no classes: remove it, and set ratio or"
        " rowsPerSlice above 0",
    ),
    (
        "!has(self.training) || !has(self.training.retention)"
        " || !has(self.training.retention.replay)"
        " || !has(self.training.retention.replay.rowsPerSlice)"
        " || has(self.data.source.columns.slice)",
        "training.retention.replay.rowsPerSlice needs data.source.columns.slice; name the column,"
        " or remove rowsPerSlice",
    ),
    (
        "self.model.task != 'Regression' || !has(self.training) || !has(self.training.retention)"
        " || !has(self.training.retention.distillation)"
        " || !has(self.training.retention.distillation.temperature)",
        "training.retention.distillation of Regression has no temperature: it compares numbers, not"
        " probabilities; remove it",
    ),
    (
        "!(self.model.task in ['Embedding', 'CausalLM', 'MaskedLM']) || !has(self.training)"
        " || !has(self.training.retention)"
        " || (!has(self.training.retention.distillation) && !has(self.training.retention.ewc))",
        "training.retention.distillation and ewc are not available for tasks Embedding, CausalLM"
        " and MaskedLM, whose outputs are vectors and tokens; remove them",
    ),
)
"""What keeps learnt knowledge, by task and columns."""

HOLDOUTS: Rules = (
    (
        "!has(self.data.reserve) || has(self.data.source.columns.entity)"
        " || (self.model.task == 'Ranking' && has(self.data.source.columns.group))",
        "data.reserve needs data.source.columns.entity: entities are reserved, not rows; name the"
        " column with the shopper or query",
    ),
    (
        "has(self.data.source.columns.group)"
        " || !self.gate.rules.exists(r, r.metric.startsWith('ndcg'))",
        "a rule on ndcg needs data.source.columns.group; name the column with the ranking list",
    ),
    (
        "!has(self.evaluation) || !has(self.evaluation.datasets) || has(self.data.reserve)"
        " || !self.evaluation.datasets.exists(d, d.role == 'Historical')",
        "a dataset with role Historical needs data.reserve: it holds the reserved rows; set it, or"
        " remove the dataset",
    ),
    (
        "!has(self.evaluation) || !has(self.evaluation.datasets)"
        " || self.gate.rules.exists(r, r.severity == 'Required'"
        " && r.metric != 'ece'"
        " && (r.metric in ['log_loss', 'rmse', 'mae', 'mape', 'wape', 'perplexity']"
        " ? has(r.max) : has(r.min))"
        " && !self.evaluation.datasets.exists(d, d.name == r.dataset && d.role == 'Historical'))",
        "gate.rules needs a Required rule with min (log_loss and errors: max) on a dataset whose"
        " role is not Historical: the first generation has no historical rows, so no other rule"
        " can decide on it; add one such as {name: floor, metric: auc, dataset: holdout, min:"
        " '0.6'}",
    ),
)
"""Which rows decide: reserved entities, ranking lists and datasets."""

PLACES: Rules = (
    (
        "has(self.data.volume) || !self.data.source.uri.startsWith('file:')"
        " || self.data.source.uri == self.storage.uri"
        " || self.data.source.uri.startsWith(self.storage.uri"
        " + (self.storage.uri.endsWith('/') ? '' : '/'))",
        "data.source.uri must lie below storage.uri where data.volume is not set; set data.volume"
        " to the claim that holds the data",
    ),
    (
        "has(self.data.volume) || has(self.storage.volume)"
        " || !self.model.initial.uri.startsWith('file:')",
        "model.initial.uri begins with file://, but neither data.volume nor storage.volume is set,"
        " so the pods mount no claim; copy the model to an object store, or set data.volume",
    ),
    (
        "!has(self.data.volume) || !(self.storage.uri in ['file://' + self.data.volume.mountPath,"
        " 'file://' + self.data.volume.mountPath + '/'])",
        "data.volume.mountPath and storage.uri must be different folders; each is a mount of its"
        " own",
    ),
    (
        "!has(self.rollout.pin) || !has(self.mode) || self.mode == 'Enforce'",
        "rollout.pin needs mode Enforce: the other modes change no target; change the mode, or"
        " remove the pin",
    ),
    (
        "self.storage.uri == oldSelf.storage.uri",
        "storage.uri is immutable; the generations already kept would be lost",
    ),
)
"""Where data, models and generations are, and what is pinned."""
