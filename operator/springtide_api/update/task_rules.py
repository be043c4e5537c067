"""Rules of what goes with which task, in the order of the CRD.

Each is a CEL expression and the message of what it refuses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from springtide_api.schema import Rules

METRICS: Rules = (
    (
        "self.gate.rules.all(r, has(self.evaluation) && has(self.evaluation.datasets)"
        " ? self.evaluation.datasets.exists(d, d.name == r.dataset) : r.dataset == 'holdout')",
        "gate.rules[].dataset must name one of evaluation.datasets; without datasets there is one,"
        " holdout",
    ),
    (
        "self.gate.rules.all(r, r.metric in ['rmse', 'mae', 'mape', 'wape', 'r2']"
        " ? self.model.task == 'Regression' : r.metric == 'perplexity'"
        " ? self.model.task in ['CausalLM', 'MaskedLM'] : r.metric == 'masked_accuracy'"
        " ? self.model.task == 'MaskedLM' : r.metric.startsWith('recall')"
        " ? self.model.task == 'Embedding' : r.metric.startsWith('mrr')"
        " ? self.model.task in ['Ranking', 'Embedding'] : r.metric == 'map'"
        " ? self.model.task == 'Ranking' : r.metric.startsWith('ndcg')"
        " ? self.model.task in ['Ranking', 'Classification']"
        " : self.model.task == 'Classification')",
        "gate.rules[].metric must be one of model.task: rmse, mae, mape, wape and r2 for"
        " Regression, ndcg@<k>, mrr, mrr@<k> and map for Ranking, recall@<k>, mrr and mrr@<k> for"
        " Embedding, perplexity for CausalLM and MaskedLM, masked_accuracy for MaskedLM, the"
        " others and ndcg@<k> for Classification",
    ),
    (
        "(has(self.model.classification) && self.model.classification.multiLabel)"
        " ? self.gate.rules.all(r,"
        " r.metric in ['auc', 'pr_auc', 'log_loss', 'macro_f1', 'micro_f1'])"
        " && !(has(self.training) && has(self.training.earlyStopping)"
        " && has(self.training.earlyStopping.metric)"
        " && self.training.earlyStopping.metric == 'accuracy')"
        " : !self.gate.rules.exists(r, r.metric == 'micro_f1')",
        "metrics with classification.multiLabel are auc, pr_auc, log_loss, macro_f1 and micro_f1;"
        " micro_f1 needs multiLabel",
    ),
    (
        "!(self.model.task in ['Regression', 'Embedding', 'CausalLM', 'MaskedLM'])"
        " || !self.gate.rules.exists(r, has(r.minPositives))",
        "a rule of Regression, Embedding, CausalLM or MaskedLM has no minPositives: no label is the"
        " positive one; remove it",
    ),
    (
        "!has(self.training) || !has(self.training.earlyStopping)"
        " || !has(self.training.earlyStopping.metric)"
        " || (self.training.earlyStopping.metric in ['rmse', 'mae'] ? ['Regression']"
        " : self.training.earlyStopping.metric == 'mrr' ? ['Ranking', 'Embedding']"
        " : self.training.earlyStopping.metric == 'recall@10' ? ['Embedding']"
        " : self.training.earlyStopping.metric == 'perplexity' ? ['CausalLM', 'MaskedLM']"
        " : self.training.earlyStopping.metric in ['ndcg@10', 'loss'] ? ['Ranking']"
        " : ['Classification']).exists(t, t == self.model.task)",
        "training.earlyStopping.metric must be one of model.task: rmse and mae for Regression,"
        " ndcg@10, mrr and loss for Ranking, mrr and recall@10 for Embedding, perplexity for"
        " CausalLM and MaskedLM, the others for Classification",
    ),
)
"""Which metrics a task has, in rules of the gate and in early stopping."""

TASKS: Rules = (
    (
        "!has(self.training) || !has(self.training.unlabelled)"
        " || (self.model.task == 'Classification' && (!has(self.model.classification)"
        " || !self.model.classification.multiLabel))",
        "training.unlabelled needs task Classification with one label for each row: only there a"
        " row has a probability to compare with the threshold; remove it",
    ),
    (
        "self.model.task != 'CausalLM' || !has(self.data.source.columns.textPair)",
        "task CausalLM has no data.source.columns.textPair: the prompt is text, or the features"
        " that template combines, and the response is label; remove it",
    ),
    (
        "self.model.task != 'CausalLM' || !has(self.training) || !has(self.training.robustness)"
        " || !has(self.training.robustness.augmentation)",
        "training.robustness.augmentation is not available for task CausalLM: a changed response"
        " would be learnt as it is; remove augmentation",
    ),
    (
        "!(self.model.task in ['CausalLM', 'MaskedLM']) || !has(self.training)"
        " || !has(self.training.parallelism) || self.training.parallelism.type != 'FSDP'",
        "training.parallelism.type FSDP is not available for tasks CausalLM and MaskedLM; set it to"
        " DDP",
    ),
    (
        "self.model.task != 'CausalLM' || !has(self.serving) || !has(self.serving.optimise)"
        " || !has(self.serving.optimise.quantization)",
        "serving.optimise.quantization is not available for task CausalLM: the quantized form has"
        " no cache of earlier tokens, without which each new token would cost a whole pass; remove"
        " it",
    ),
    (
        "(self.model.task == 'MaskedLM') != has(self.data.source.columns.label)",
        "set data.source.columns.label, but not for task MaskedLM, which learns from the text"
        " alone; name the column, or remove it",
    ),
    (
        "(self.model.task == 'MaskedLM') == (size(self.rollout.targets) == 0)",
        "rollout.targets needs at least one Deployment, but is [] for task MaskedLM, which serves"
        " nothing; add a target, or set it to []",
    ),
    (
        "self.model.task != 'MaskedLM' || !has(self.serving)",
        "task MaskedLM has no serving: its weights answer no requests; remove it",
    ),
    (
        "self.model.task != 'MaskedLM' || !has(self.data.source.columns.servedGeneration)",
        "task MaskedLM has no data.source.columns.servedGeneration: no row was served by one of its"
        " generations; remove it",
    ),
    (
        "self.model.task != 'MaskedLM' || !has(self.training) || !has(self.training.robustness)"
        " || !has(self.training.robustness.augmentation)",
        "training.robustness.augmentation is not available for task MaskedLM, which hides other"
        " tokens in each epoch by itself; remove augmentation",
    ),
    (
        "self.model.task in ['Classification', 'Ranking', 'Regression'] || !has(self.training)"
        " || !has(self.training.method) || self.training.method.type != 'Adapter'",
        "method Adapter is for tasks Classification, Ranking and Regression; set"
        " training.method.type to LoRA or Full",
    ),
    (
        "!(self.model.task in ['Embedding', 'MaskedLM']) || !has(self.training)"
        " || !has(self.training.method)"
        " || !(self.training.method.type in ['PromptTuning', 'PrefixTuning'])",
        "methods PromptTuning and PrefixTuning are for tasks Classification, Ranking, Regression"
        " and CausalLM; set training.method.type to LoRA or Full",
    ),
    (
        "self.model.task != 'Embedding' || has(self.data.source.columns.textPair)",
        "task Embedding needs data.source.columns.text and textPair: the query and the document;"
        " name both columns",
    ),
    (
        "!has(self.model.embedding) || self.model.embedding.trainTower != 'Both'"
        " || !has(self.training) || !has(self.training.compute)"
        " || (self.training.compute.gpusPerNode <= 1 && self.training.compute.nodes == 1)",
        "model.embedding.trainTower Both is trained on one GPU: each query is compared with the"
        " documents of all rows of a step; set training.compute.gpusPerNode to 0 or 1, and nodes"
        " to 1",
    ),
    (
        "has(self.storage.volume) || !has(self.training) || !has(self.training.compute)"
        " || self.training.compute.nodes == 1 || !has(self.training.parallelism)"
        " || self.training.parallelism.type != 'FSDP'",
        "training.parallelism.type FSDP on several nodes needs storage.volume: each pod writes its"
        " part of a checkpoint into a folder that all of them mount; set type to DDP, or"
        " training.compute.nodes to 1",
    ),
    (
        "!has(self.model.embedding) || self.model.embedding.trainTower != 'Both'"
        " || !has(self.training) || !has(self.training.robustness)"
        " || !has(self.training.robustness.adversarial)",
        "training.robustness.adversarial excludes model.embedding.trainTower Both: a disturbed"
        " query would need the gradients of all documents of its step a second time; remove"
        " adversarial",
    ),
    (
        "!has(self.model.embedding) || self.model.embedding.trainTower != 'Both'"
        " || (has(oldSelf.model.embedding) && oldSelf.model.embedding.trainTower == 'Both')",
        "model.embedding.trainTower cannot become Both: the queries were trained alone, and Both"
        " needs one model for queries and documents; create a new IncrementalUpdate",
    ),
    (
        "self.model.task != 'Embedding' || !has(self.training) || !has(self.training.parallelism)"
        " || self.training.parallelism.type != 'FSDP'",
        "training.parallelism.type FSDP is not available for task Embedding, whose encoders fit one"
        " GPU; set it to DDP",
    ),
    (
        "self.model.task != 'Embedding' || !has(self.data.window)"
        " || !has(self.data.window.rowsPerShard)",
        "data.window.rowsPerShard is not available for task Embedding: the rank of a query needs"
        " the documents of all rows; remove rowsPerShard",
    ),
    (
        "self.model.task != 'Embedding' || !has(self.serving) || !has(self.serving.optimise)",
        "serving.optimise has no form for task Embedding: the vectors of a live index are those of"
        " the weights as they were trained; remove optimise",
    ),
    (
        "self.model.task != 'Ranking' || has(self.data.source.columns.group)",
        "task Ranking needs data.source.columns.group; name the column with the query or ranking"
        " list",
    ),
)
"""What a task needs or lacks, and on how many pods and GPUs it is trained."""
