"""What trainers answer in the world without a cluster: results made from months and scores."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from springtide_api.contract import (
    CommittedAdapter,
    CommittedArtifact,
    EvaluateOutput,
    ProbeInput,
    ProbeOutput,
    Result,
    ServedForm,
    TrainOutput,
    WindowFound,
)
from springtide_api.retained import PseudoLabelled, Replayed
from springtide_api.schema import hub_repository
from springtide_api.update.model import Optimise

if TYPE_CHECKING:
    from lifecycle.world import World

    from springtide_api.contract import RunFile
    from springtide_api.generation.spec import Recipe
    from springtide_operator.lifecycle.state.plan import StartJob

MONTHS = [f"2025-{month:02d}" for month in range(1, 13)] + [f"2026-{m:02d}" for m in range(1, 13)]


def digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def start_of(month: str) -> datetime:
    return datetime.fromisoformat(f"{month}-01").replace(tzinfo=UTC)


def end_of(month: str) -> datetime:
    return start_of(MONTHS[MONTHS.index(month) + 1])


ON_A_CLAIM = "file:///models/search/shop"


def answer(world: World, start: StartJob) -> Result:
    """Return the result of a Job, with URIs in the storage of its run file."""
    result, home = _answer(world, start), start.run.home
    if "://" not in home:
        return result
    text = result.model_dump_json(by_alias=True)
    return Result.model_validate_json(text.replace(ON_A_CLAIM, home))


def _answer(world: World, start: StartJob) -> Result:
    run = start.run
    shared = {"job": run.job, "stage": run.stage, "number": run.number, "ok": True}
    match run.stage:
        case "import":
            return Result(**shared, imported=_initial(world, run))
        case "probe":
            return Result(**shared, probe=_probe(world, start))
        case "train":
            return Result(**shared, train=_trained(world, start))
        case "evaluate":
            return Result(**shared, evaluate=_numbers(world, start))
        case _:
            return Result(**shared)


UNKNOWN_QUALITY = 0.60
"""AUC of a model that was never a candidate: an initial one."""

LABELLED = PseudoLabelled(offered=50, used=30, classes={"0": 10, "1": 20})


def _trained(world: World, start: StartJob) -> TrainOutput:
    run = start.run
    made = _artifact(f"{run.train.parent.digest}{run.train.data.digest}")
    output = TrainOutput(artifact=_as_served(world, run.recipe, made), steps=10, rows=100)
    if world.without_gain:
        kept = made.model_copy(update=run.train.parent.model_dump())
        kept = _as_served(world, run.recipe, kept)
        numbers = {"best_step": 0.0, "validation": 0.123456}
        output = output.model_copy(update={"artifact": kept, "metrics": numbers})
    retention = run.recipe.training.retention
    if retention and retention.replay:
        left = world.storage.leave_buffer(run.train)
        again = Replayed(rows=20, classes={"0": 8, "1": 12})
        output = output.model_copy(update={"buffer": left, "replay": again})
    if retention and retention.ewc:
        output = output.model_copy(update={"fisher": world.storage.leave_fisher(run.train)})
    if run.recipe.training.pseudo_labels:
        output = output.model_copy(update={"pseudo_labels": LABELLED})
    lora = run.recipe.training.method.lora
    if lora and lora.continuation == "Continue":
        output = output.model_copy(update={"adapter": _adapter(start)})
    return output


SPOILED = (
    "no number",
    "no row",
    "a foreign row",
    "another candidate",
    "another baseline",
    "another holdout",
    "another reference",
    "another generation",
    "another stage",
    "no output",
    "nothing",
)
"""How a result that was to be measured may lie: nothing may be promoted on it."""


def spoiled(result: Result, how: str) -> Result | None:
    """Spoil the result of an evaluation."""
    measured = result.evaluate
    assert measured is not None
    other = digest("of another run")
    changes: dict[str, dict[str, object]] = {
        "no number": {"rules": [(*row[:1], *(None,) * 11, *row[12:]) for row in measured.rules]},
        "no row": {"rules": measured.rules[:-1]},
        "a foreign row": {"rules": [*measured.rules, ("of another gate", *measured.rules[0][1:])]},
        "another candidate": {"candidate_digest": other},
        "another baseline": {"baseline_digest": other},
        "another holdout": {"holdout_digest": other},
        "another reference": {"reference_digest": other},
    }
    match how:
        case "another generation":
            return result.model_copy(update={"number": (result.number or 0) + 1})
        case "another stage":
            return result.model_copy(update={"stage": "train"})
        case "no output":
            return result.model_copy(update={"evaluate": None})
        case "nothing":
            return None
    return result.model_copy(update={"evaluate": measured.model_copy(update=changes[how])})


def _initial(world: World, run: RunFile) -> CommittedArtifact:
    made = _artifact("initial", "Seeded" if world.seeded else "Trained")
    if repository := hub_repository(run.imported.uri):
        commit = digest("".join(repository)).removeprefix("sha256:")[:40]
        made = made.model_copy(update={"commit": commit})
    return _as_served(world, run.recipe, made)


def _artifact(text: str, head: str = "Trained") -> CommittedArtifact:
    made = digest(text)
    uri = f"file:///models/search/shop/artifacts/{made.replace(':', '-')}"
    return CommittedArtifact(uri=uri, digest=made, bytes=1, head=head)


def _as_served(world: World, recipe: Recipe, made: CommittedArtifact) -> CommittedArtifact:
    """The artifact with its optimized form: what its image knows of the one that is asked for."""
    asked = recipe.serving.optimise.plain() if recipe.serving and recipe.serving.optimise else {}
    known = Optimise.model_validate({name: asked[name] for name in world.forms if name in asked})
    if not known.describe():
        return made
    served = ServedForm(
        digest=digest(f"{known.describe()} {made.digest}"),
        bytes=1,
        quantization=known.quantization,
        sparsity=known.pruning.sparsity if known.pruning else None,
    )
    return made.model_copy(update={"served": served})


def _adapter(start: StartJob) -> CommittedAdapter:
    """An adapter of the one that was continued and of the rows of this run."""
    asked = start.run.train
    before = asked.adapter
    base = before.base.digest if before else asked.parent.digest
    made = digest(f"adapter {before and before.digest} {base} {asked.data.digest}")
    uri = f"file:///models/search/shop/artifacts/{made.replace(':', '-')}"
    return CommittedAdapter(uri=uri, digest=made, base=base, continued=before is not None)


def _probe(world: World, start: StartJob) -> ProbeOutput:
    asked = start.run.probe
    since = asked.candidate_trained_through or asked.cursor
    eligible = [m for m in world.months if m not in {*asked.quarantined, *asked.released}]
    fresh = [m for m in eligible if since is None or start_of(m) >= since]
    newest = world.months[-1] if world.months else None
    gaps = _gaps(world, asked)
    holdout = fresh if asked.candidate_trained_through else fresh[-1:]
    training = [] if asked.candidate_trained_through else fresh[:-1]
    if not holdout or (not training and not asked.candidate_trained_through):
        message = f"{len(fresh)} of 2 complete partitions"
        return ProbeOutput(
            reason="NotEnoughData", message=message, newest_partition=newest, gaps=gaps
        )
    before = start_of(holdout[0])
    joined = [m for m in asked.released if m in world.months and start_of(m) < before]
    to = None if asked.candidate_trained_through else end_of(training[-1])
    training = sorted([*joined, *training]) if training else []
    served = {m: world.served_in(m) for m in (*training, *holdout)}
    left_out = {m: by & {*asked.excluded_generations} for m, by in served.items()}
    months = [f"{m} without {sorted(by)}" for m, by in left_out.items() if by]
    late = [f"{world.late_rows} late rows"] if world.late_rows else []
    text = digest("|".join(map(str, (training, holdout, asked.quarantined, *months, *late))))
    kept = set().union(*served.values()) - {*asked.excluded_generations}
    world.storage.freeze(text, training, kept)
    found = WindowFound(
        manifest=f"file:///models/search/shop/data/{text.replace(':', '-')}",
        digest=text,
        from_=since,
        to=to,
        holdout_from=start_of(holdout[0]),
        holdout_to=end_of(holdout[-1]),
        partitions=training,
        holdout_partitions=holdout,
        rows=world.training_rows_of_a_month * len(training),
        reserved_rows=50,
        holdout_rows=world.rows_of_a_month * len(holdout) + world.late_rows,
        holdout_entities=200 * len(holdout),
        holdout_positives=400 * len(holdout),
        unlabelled_rows=400 * len(training) if start.run.recipe.training.pseudo_labels else 0,
        excluded_rows=100 * len(months) if world.image_knows_served_generation else None,
    )
    pending = 1000 * len(fresh)
    return ProbeOutput(
        reason="WindowReady",
        message="ready",
        pending_rows=pending,
        newest_partition=newest,
        window=found,
        gaps=gaps,
    )


def _gaps(world: World, asked: ProbeInput) -> list[str]:
    """Months that were not delivered though a later one was; none is waited for here."""
    if not world.months:
        return []
    first = asked.cursor or start_of(world.months[0])
    missing = {*world.undelivered} - {*asked.quarantined}
    return sorted(m for m in missing if start_of(m) >= first and m < world.months[-1])


def _numbers(world: World, start: StartJob) -> EvaluateOutput:
    asked = start.run.evaluate
    generation = world.generation(start.run.number)
    holdout = (generation.status.evaluation or None) and generation.status.evaluation.holdouts[-1]
    month = holdout.partitions[-1] if holdout else generation.spec.data.holdout_partitions[-1]
    own, live = world.aucs.get(month, (0.70, 0.60))
    world.qualities[asked.candidate.digest] = own
    rows = []
    for rule in generation.spec.recipe.gate.rules:
        entities = holdout.entities if holdout else generation.spec.data.holdout_entities
        baseline = live if asked.baseline else None
        rows.append(_row(rule.name, own, baseline, world.error, entities))
    return EvaluateOutput(
        rules=rows,
        trivial_baseline=[0.5] * len(rows),
        versus_reference=_to_reference(world, start, own),
        reference_digest=asked.reference.digest if asked.reference else None,
        candidate_digest=asked.candidate.digest,
        baseline_digest=asked.baseline.digest if asked.baseline else None,
        holdout_digest=asked.holdout.digest,
        report=f"file:///models/search/shop/reports/{start.run.job}",
    )


def _to_reference(world: World, start: StartJob, own: float) -> list[tuple | None]:
    asked, half = start.run.evaluate, 1.645 * world.error
    if asked.reference is None:
        return []
    then = world.qualities.get(asked.reference.digest, UNKNOWN_QUALITY)
    delta = own - then
    return [
        (then, delta, delta - half, delta + half) if rule.max_cumulative_regression else None
        for rule in start.run.recipe.gate.rules
    ]


def _row(rule: str, own: float, live: float | None, error: float, entities: int) -> tuple:
    half = 1.645 * error
    if live is None:
        compared: tuple = (None,) * 6
        live_error = None
    else:
        delta = own - live
        compared = (live, live - half, live + half, delta, delta - half, delta + half)
        live_error = error
    return (rule, own, own - half, own + half, *compared, error, live_error, entities, 2 * entities)
