"""Evaluates a candidate: scores candidate and live model on the same rows and compares them.

The operator decides the verdict from these numbers, with the function that the report uses.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from springtide_api.contract import EvaluateOutput
from springtide_api.update.task import EARLY_STOPPING_METRIC
from springtide_judging.bounds import cumulative
from springtide_trainer.data.snapshots.frozen_rows import part_files
from springtide_trainer.evaluation import report, warm_up
from springtide_trainer.evaluation.comparison import Measured, measure
from springtide_trainer.evaluation.confidence_intervals import Resampling
from springtide_trainer.evaluation.datasets import read_dataset, read_manifest
from springtide_trainer.evaluation.rule_rows import (
    DatasetResult,
    by_name,
    reference_rows,
    rule_row,
    trivial_baseline_of,
)
from springtide_trainer.evaluation.sharing import evaluate_input, scores_of
from springtide_trainer.storage import commit_folder, local_path, uri_of
from springtide_trainer.tracking.report import reporting

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from springtide_api.contract import EvaluateInput, RuleRow, RunFile
    from springtide_api.generation.spec import Recipe
    from springtide_api.retained import Retained
    from springtide_trainer.evaluation.comparison import Scores
    from springtide_trainer.evaluation.confidence_intervals import Estimate
    from springtide_trainer.evaluation.datasets import EvaluationDataset
    from springtide_trainer.storage import Home
    from springtide_trainer.tasks.task import Evaluation, Labels


def evaluate(run: RunFile, home: Home, tmp: Path) -> EvaluateOutput:
    """Score candidate and live model, compute metrics, and commit report, metrics and scores.

    Raises:
        Refused: an artifact or rows do not match their digest, or rows are not valid.
    """
    given = evaluate_input(run)
    began = time.monotonic()
    datasets = [read_dataset(each, given, run.recipe) for each in run.recipe.evaluation.datasets]
    scores = scores_of(datasets, run, home, tmp)
    found = [
        _measure(rows, each, run.recipe, given) for rows, each in zip(datasets, scores, strict=True)
    ]
    rules = [rule_row(rule, found) for rule in run.recipe.gate.rules]
    folder = tmp / "report"
    folder.mkdir()
    written = json.dumps(_results(run, given, found, rules), indent=1, allow_nan=False)
    (folder / "metrics.json").write_text(written + "\n", encoding="utf-8")
    (folder / "report.html").write_text(report.render(json.loads(written)), encoding="utf-8")
    pq.write_table(_scored(found), folder / "scores.parquet")
    commit_folder(folder, home.report(run.job))
    warm_up.write(datasets, given.candidate, run.recipe, tmp)
    with reporting(run, home, tmp) as tracked:
        tracked.begin()
        for rule, row in zip(run.recipe.gate.rules, rules, strict=True):
            tracked.add(run.attempt, by_name(rule, row))
    return EvaluateOutput(
        rules=rules,
        trivial_baseline=[trivial_baseline_of(rule, found) for rule in run.recipe.gate.rules],
        versus_reference=reference_rows(run.recipe.gate.rules, found),
        reference_digest=given.reference.digest if given.reference else None,
        candidate_digest=given.candidate.digest,
        baseline_digest=given.baseline.digest if given.baseline else None,
        holdout_digest=given.holdout.digest,
        report=uri_of(home.report(run.job)),
        seconds=round(time.monotonic() - began, 1),
        warnings=tracked.warnings,
    )


def _measure(
    rows: EvaluationDataset, scores: list[Scores], recipe: Recipe, given: EvaluateInput
) -> DatasetResult:
    """Compute the metrics of one dataset. The digest of its rows is the seed of the bootstrap."""
    candidate, live = scores[0], scores[1] if given.baseline else None
    models = scores[: 2 if given.baseline else 1]
    task, encoded = candidate.task, rows.encoded(candidate.task)
    if candidate.labels is not None:
        encoded = replace(encoded, label=candidate.labels)
    by = Resampling(
        samples=recipe.evaluation.bootstrap.samples,
        confidence=given.confidence,
        seed=int.from_bytes(hashlib.sha256(rows.digest.encode()).digest()[:8]),
    )
    asked, others = _metrics(task, recipe, rows.name)
    found = measure(asked, encoded, candidate=candidate, live=live, by=by)
    found |= measure(others, encoded, candidate=candidate, live=live, by=None)
    metrics = {name: found[name] for name in sorted(found, key=partial(_position, task))}
    counted = task.positives(rows.counts(task))
    floors = {name: task.trivial_baseline(name, encoded) for name in asked}
    referring = {
        rule.metric for rule in recipe.gate.rules if cumulative(rule) and rule.dataset == rows.name
    }
    compared: dict[str, Measured] = {}
    if given.reference and referring:
        compared = measure(sorted(referring), encoded, candidate=candidate, live=scores[-1], by=by)
    return DatasetResult(
        rows,
        models,
        encoded.entities,
        counted,
        metrics,
        floors,
        compared,
        task.by_label(encoded, candidate.predictions) if len(encoded.label) else [],
    )


def _metrics(task: Evaluation, recipe: Recipe, dataset: str) -> tuple[list[str], list[str]]:
    """List the metrics of rules on a dataset, and the other metrics of the report.

    Bounds cost thousands of times more than values, so they are only computed for rules.
    """
    asked = {rule.metric for rule in recipe.gate.rules if rule.dataset == dataset}
    grouped = task.group_metrics if recipe.data.source.columns.group else ()
    return sorted(asked), sorted({*task.metrics, *grouped} - asked)


def _position(task: Evaluation, metric: str) -> tuple[int, str]:
    """Order metrics as the task lists them, others last."""
    known = list(task.metrics)
    return (known.index(metric) if metric in known else len(known)), metric


def _results(
    run: RunFile, given: EvaluateInput, found: Sequence[DatasetResult], rules: Sequence[RuleRow]
) -> dict[str, Any]:
    """Return all results as JSON values: the content of metrics.json, the input of the report."""
    bootstrap = run.recipe.evaluation.bootstrap
    return {
        "job": run.job,
        "namespace": run.namespace,
        "update": run.update,
        "generation": run.number,
        "parent": given.parent_number,
        "method": run.recipe.training.method.type,
        "served_as": _served_as(run.recipe),
        "settings": _settings(run.recipe, given.retained),
        "continuation": given.continuation,
        "candidate": given.candidate.plain(),
        "baseline": given.baseline.plain() if given.baseline else None,
        "window": _window(given),
        "retained": given.retained.model_dump(mode="json") if given.retained else None,
        "validated_by": _validated_by(run.recipe),
        "task": run.recipe.model.task,
        "gains": run.recipe.model.ranking.gains if run.recipe.model.ranking else {},
        "multi_label": bool(
            run.recipe.model.classification and run.recipe.model.classification.multi_label
        ),
        "labels": [scores.task.outputs for scores in found[0].scores],
        "bootstrap": {"samples": bootstrap.samples, "confidence": given.confidence},
        "gate": run.recipe.gate.plain(),
        "rules": rules,
        "reference": given.reference.plain() if given.reference else None,
        "versus_reference": reference_rows(run.recipe.gate.rules, found),
        "trivial_baseline": [trivial_baseline_of(rule, found) for rule in run.recipe.gate.rules],
        "datasets": [_dataset(each, found[0].scores[0].task) for each in found],
    }


def _settings(recipe: Recipe, reached: Retained | None = None) -> dict[str, str]:
    """Return what the model was made with besides its method, for the report."""
    kept, retention = recipe.model.keep_layers, recipe.training.retention
    found = {}
    if kept:
        found["model.keepLayers"] = f"{', '.join(map(str, sorted(kept)))} of the initial model"
    if retention and (distilled := retention.distillation):
        warmth = f", temperature {distilled.temperature}" if distilled.temperature else ""
        found["retention.distillation"] = f"weight {distilled.weight}{warmth}"
    if retention and (ewc := retention.ewc):
        rows = f"Fisher information of at most {ewc.rows:,} rows"
        found["retention.ewc"] = f"strength {ewc.strength}, gamma {ewc.gamma}, {rows}"
    if labelling := recipe.training.pseudo_labels:
        settings = f"threshold {labelling.threshold}, weight {labelling.weight}"
        found["unlabelled.pseudoLabels"] = settings
    if pruning := recipe.training.pruning:
        found["pruning"] = f"sparsity {pruning.sparsity}"
        if reached and reached.sparsity is not None:
            found["pruning"] += f"; {reached.sparsity:.4g} of the weights of linear layers are zero"
    return found


def _served_as(recipe: Recipe) -> str | None:
    """Return the optimized form of the candidate; None for its weights."""
    optimise = recipe.serving.optimise if recipe.serving else None
    return optimise.describe() or None if optimise else None


def _validated_by(recipe: Recipe) -> str | None:
    """Return the metric of the validation split; None without early stopping."""
    stopping = recipe.training.early_stopping
    return (stopping.metric or EARLY_STOPPING_METRIC[recipe.model.task]) if stopping else None


def _window(given: EvaluateInput) -> dict[str, Any]:
    """Return the window in the holdout's manifest; an extended holdout has no training rows."""
    folder = local_path(given.holdout.uri, only=part_files("holdout"))
    manifest = read_manifest(folder, given.holdout.digest)
    return {
        "training_from": manifest.get("from"),
        "training_to": manifest.get("to"),
        "holdout_from": manifest.get("holdout", {}).get("from"),
        "holdout_to": manifest.get("holdout", {}).get("to"),
        "excluded_generations": manifest.get("excludedGenerations", []),
        "excluded_rows": manifest.get("excludedRows", 0),
    }


def _dataset(found: DatasetResult, labels: Labels) -> dict[str, Any]:
    table = found.rows.table
    times = [] if table is None else [_extreme(table, name) for name in ("min", "max")]
    return {
        "name": found.rows.name,
        "role": found.rows.role,
        "digest": found.rows.digest,
        "rows": 0 if table is None else len(table),
        "entities": found.entities,
        "positives": found.positives,
        "labels": dict(found.rows.counts(labels)),
        "by_label": found.by_label,
        "times": times,
        "metrics": {
            name: {part: _plain(each) for part, each in _parts(of).items()}
            for name, of in found.metrics.items()
        },
    }


def _parts(of: Measured) -> dict[str, Estimate]:
    return {"candidate": of.candidate, "live": of.live, "delta": of.delta}


def _plain(of: Estimate) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in asdict(of).items()}


def _extreme(table: pa.Table, which: str) -> str:
    moment = pa.compute.call_function(which, [table["timestamp"]]).as_py()
    return str(moment.strftime("%Y-%m-%d %H:%M"))


def _scored(found: Sequence[DatasetResult]) -> pa.Table:
    """Return the scores of every row; `row` is its index in the scored rows."""
    tables = [_scored_rows(each) for each in found if each.rows.table is not None]
    models = ("candidate", "baseline")[: len(found[0].scores)]
    named = {
        f"{model}_labels": json.dumps(scores.task.outputs)
        for model, scores in zip(models, found[0].scores, strict=True)
    }
    whole = pa.concat_tables(tables or [pa.table({})], promote_options="default")
    return whole.replace_schema_metadata(named)


def _scored_rows(found: DatasetResult) -> pa.Table:
    table = found.rows.table
    assert table is not None
    columns = {
        "dataset": pa.array([found.rows.name] * len(table), pa.string()),
        "row": pa.array(range(len(table)), pa.int64()),
    }
    columns |= {
        name: table[name] for name in ("entity", "group", "label") if name in table.schema.names
    }
    for model, scores in zip(("candidate", "baseline"), found.scores, strict=False):
        columns[model] = pa.array(list(scores.predictions), pa.list_(pa.float32()))
    return pa.table(columns)
