"""Who is who among the generations of one update: live, previous, candidate, parent.

`Observation.lineage` derives it once from the generations: live and cursor are those of the newest
promotedAt.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from springtide_api import words
from springtide_api.names import generation_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from springtide_api.generation import GenerationData, HoldoutStatus, Recipe
    from springtide_api.objects import ModelGeneration
    from springtide_api.update_status import Cursor, UpdateStatus
    from springtide_operator.lifecycle.observation import Observation

JUDGED = frozenset({"Accepted", "Rejected", "Inconclusive", "Failed"})
ORPHANED = "Orphaned"
SPEC_CHANGED = "SpecChanged"
"""It waited for pods that the spec no longer asks for, and was given up before it ran."""
BY_REQUEST = "RejectedByRequest"


@dataclass(frozen=True)
class Lineage:
    """Who is who among the generations, and where the cursor stands: derived once, then handed on.

    Stages, conditions and summary read the same value, so that they cannot disagree.
    """

    promoted: tuple[ModelGeneration, ...]
    """Generations that were promoted, the newest promotion first."""
    initial: ModelGeneration | None
    """Generation 0; where its import failed and was tried again, the newest."""
    unknown: ModelGeneration | None
    """A generation that is not finished and holds a word of another version: nothing begins beside
    it."""
    candidate: ModelGeneration | None
    """The one generation under way. There are never two: the lowest unfinished number is it."""
    cursor: datetime | None
    """Rows from here on are new. None: from the first row."""
    released: tuple[str, ...]
    """Partitions released since the live generation was promoted: they join the next window."""
    training_only: tuple[str, ...]
    """Partitions that were quarantined once and no promoted generation was trained on yet."""
    shared_rejection: tuple[ModelGeneration, str] | None
    """The second of two rejections in a row that share a training partition, and the newest shared.
    A third such run is not tried: it would fail on the same rows."""
    proposed_for_quarantine: tuple[str, ...]
    """Partitions proposed for quarantine: those of a suspect holdout, or of a shared rejection."""
    next_number: int
    """A number that was never used: above every generation, target and entry of the history."""
    next_name: str
    """Name of the next generation."""

    @property
    def live(self) -> ModelGeneration | None:
        """The generation that was promoted last."""
        return self.promoted[0] if self.promoted else None

    @property
    def previous(self) -> ModelGeneration | None:
        """The generation that was live before."""
        return self.promoted[1] if len(self.promoted) > 1 else None

    @property
    def parent(self) -> ModelGeneration | None:
        """The generation whose weights the next run continues from: live, else generation 0."""
        if self.live is not None:
            return self.live
        return self.initial if self.initial and self.initial.status.artifact else None


def derive(seen: Observation) -> Lineage:
    """Derive who is who from the generations: no pointer is stored, so none can be stale."""
    generations, status = seen.generations, seen.update.status
    promoted = tuple(sorted((g for g in generations if _promoted(g)), key=_promotion, reverse=True))
    live = promoted[0] if promoted else None
    unfinished = [g for g in generations if not finished(g)]
    under_way = next((g for g in unfinished if not unknown_value(g)), None)
    shared = _shared_rejection(generations, status)
    number = _next_number(seen)
    initial = seen.update.spec.model.initial
    return Lineage(
        promoted=promoted,
        initial=_initial(generations),
        unknown=next((g for g in unfinished if unknown_value(g)), None),
        candidate=under_way,
        cursor=live.status.trained_through if live else initial.trained_through,
        released=_released(live, status.cursor),
        training_only=_training_only(promoted, status.cursor),
        shared_rejection=shared,
        proposed_for_quarantine=tuple(_proposed(under_way, shared, status.cursor)),
        next_number=number,
        next_name=generation_name(seen.update.metadata.name, number),
    )


def _promoted(generation: ModelGeneration) -> bool:
    return generation.status.rollout.promoted_at is not None


def _promotion(generation: ModelGeneration) -> tuple[datetime, int]:
    moment = generation.status.rollout.promoted_at
    assert moment is not None
    return moment, generation.spec.number


def _initial(generations: Iterable[ModelGeneration]) -> ModelGeneration | None:
    brought = [g for g in generations if g.spec.origin == "Imported"]
    return max(brought, key=lambda g: (g.status.artifact is not None, g.spec.number), default=None)


def _next_number(seen: Observation) -> int:
    known = [g.spec.number for g in seen.generations]
    known += [t.highest_number for t in seen.targets if t.highest_number is not None]
    known += [entry.number for entry in seen.update.status.history]
    return max(known, default=-1) + 1


def _released(live: ModelGeneration | None, cursor: Cursor) -> tuple[str, ...]:
    if live is None:
        return ()
    return tuple(p for p in live.status.quarantined if p not in cursor.quarantined)


def _training_only(promoted: Iterable[ModelGeneration], cursor: Cursor) -> tuple[str, ...]:
    trained = {name for g in promoted if g.spec.data for name in g.spec.data.partitions}
    return tuple(sorted({*cursor.released} - {*cursor.quarantined} - trained))


def servable(generation: ModelGeneration) -> bool:
    """Whether it may be served at all: it passed the gate, or was imported with a trained head."""
    status = generation.status
    if status.artifact is None or status.rollout.rollback_reason or status.retired_reason:
        return False
    if generation.spec.origin == "Imported":
        return status.artifact.head == "Trained" and status.verdict != "Failed"
    return status.verdict == "Accepted"


def finished(generation: ModelGeneration) -> bool:
    """Whether nothing more will happen to it by itself."""
    status = generation.status
    if status.rollout.rollback_reason:
        return status.rollout.rolled_back_at is not None
    if status.rollout.promoted_at or status.retired_reason:
        return True
    if generation.spec.origin == "Imported" and status.artifact:
        return status.artifact.head == "Seeded"
    return status.verdict in {"Rejected", "Failed"}


def unknown_value(generation: ModelGeneration) -> str:
    """The field and the word of a generation's status that this version does not know, if any."""
    status = generation.status
    evaluation = status.evaluation
    holdouts = evaluation.holdouts if evaluation else []
    known = [
        ("verdict", status.verdict, words.VERDICTS),
        ("outcome", status.outcome, words.OUTCOMES),
        ("phase", status.phase, words.GENERATION_PHASES),
        *(("holdout's outcome", each.outcome, words.HOLDOUT_OUTCOMES) for each in holdouts),
    ]
    return next((f"{field} {word!r}" for field, word, there in known if word not in there), "")


def rolling(generation: ModelGeneration) -> bool:
    """Whether its roll began and is neither done nor taken back."""
    rollout = generation.status.rollout
    return bool(rollout.step_started_at and not rollout.promoted_at and not rollout.rolled_back_at)


def trainer_image(seen: Observation) -> str:
    """The image that the update's Jobs run by now: its own, else that of the installation."""
    return seen.update.spec.training.image or seen.defaults.trainer_image


def recipe(seen: Observation) -> Recipe:
    """The snapshot that a run works on to its end, with the image that it will run."""
    from springtide_api.generation import Recipe

    spec = seen.update.spec
    return Recipe(
        model=spec.model,
        data=spec.data,
        training=spec.training.model_copy(update={"image": trainer_image(seen)}),
        evaluation=spec.evaluation,
        gate=spec.gate,
        storage=spec.storage,
    )


def recipe_hash(made_from: Recipe, image_digest: str | None = None) -> str:
    """Digest of what decides weights and verdict; how much hardware it runs on does not.

    Args:
        made_from: the recipe.
        image_digest: what the name of its image stood for, where that is known: two images under
            one name are two recipes.
    """
    training = made_from.training
    decisive = {
        "model": made_from.model.plain(),
        "columns": made_from.data.source.columns.plain(),
        "holdout": made_from.data.holdout.plain(),
        "reserve": made_from.data.reserve.plain() if made_from.data.reserve else None,
        "image": training.image,
        "imageDigest": image_digest,
        "method": training.method.plain(),
        "hyperparameters": training.hyperparameters.plain(),
        "earlyStopping": training.early_stopping.plain() if training.early_stopping else None,
        "evaluation": made_from.evaluation.plain(),
        "gate": made_from.gate.plain(),
    }
    text = json.dumps(decisive, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def probe_digest(made_from: Recipe) -> str:
    """Digest of what a probe reads and how its pod is made; other edits leave it alone."""
    training = made_from.training
    concerned = {
        "model": made_from.model.plain(),
        "data": made_from.data.plain(),
        "storage": made_from.storage.plain(),
        "image": training.image,
        "compute": training.compute.plain(),
    }
    text = json.dumps(concerned, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def evaluated_before(
    seen: Observation, data: GenerationData, made_by: str, parent_digest: str
) -> ModelGeneration | None:
    """The generation that was made from the same rows, recipe and weights, if one was judged."""
    for generation in seen.generations:
        spec, status = generation.spec, generation.status
        if spec.data is None or spec.parent is None or status.reason in {ORPHANED, SPEC_CHANGED}:
            continue
        same = (spec.data.digest, spec.recipe_hash, spec.parent.digest)
        if same == (data.digest, made_by, parent_digest) and not _retry_may_differ(
            seen, generation
        ):
            return generation
    return None


def _retry_may_differ(seen: Observation, generation: ModelGeneration) -> bool:
    """Whether it ended without evidence, and what ended it has changed since."""
    status, made_from = generation.status, generation.spec.recipe
    if status.evaluation and status.evaluation.interim_analyses:
        return False
    if status.verdict == "Pending":
        return status.retired_reason == "PartitionQuarantined"
    return status.verdict == "Failed" and _run_environment(made_from) != _run_environment(
        recipe(seen)
    )


def _run_environment(made_from: Recipe) -> tuple[object, ...]:
    """What may end a run and says nothing of its rows: hardware, limits, image, claims."""
    training = made_from.training
    claims = made_from.storage.volume, made_from.data.volume
    return (training.compute, training.limits, training.image, *claims)


def analyses_elsewhere(
    seen: Observation, holdout: HoldoutStatus, at: ModelGeneration | None
) -> int:
    """Looks that other generations spent on a holdout, whatever they were trained on."""
    spent = 0
    for generation in seen.generations:
        evaluation = generation.status.evaluation
        if evaluation is None or (at and generation.metadata.name == at.metadata.name):
            continue
        spent += sum(
            each.interim_analyses for each in evaluation.holdouts if _same_rows(each, holdout)
        )
    return spent


def _same_rows(one: HoldoutStatus, other: HoldoutStatus) -> bool:
    same = (one.partitions, one.rows, one.range) == (other.partitions, other.rows, other.range)
    return same or one.digest == other.digest


def _shared_rejection(
    generations: Sequence[ModelGeneration], status: UpdateStatus
) -> tuple[ModelGeneration, str] | None:
    trained = [g for g in reversed(generations) if g.spec.origin == "Trained"]
    decided = [g for g in trained if g.status.verdict in JUDGED - {"Failed", "Inconclusive"}]
    if len(decided) < 2:
        return None
    newest, before = decided[0], decided[1]
    for each in (newest, before):
        if each.status.verdict != "Rejected" or each.status.reason == BY_REQUEST:
            return None
    quarantined = set(status.cursor.quarantined)
    shared = _training_partitions(newest) & _training_partitions(before) - quarantined
    if not shared or newest.metadata.name in status.acknowledged_holds:
        return None
    return newest, max(shared)


def _training_partitions(generation: ModelGeneration) -> set[str]:
    return set(generation.spec.data.partitions) if generation.spec.data else set()


def referenced_rows(generations: Iterable[ModelGeneration]) -> set[str]:
    """Folders of frozen rows that these generations were or are trained and judged on."""
    named: set[str] = set()
    for generation in generations:
        if data := generation.spec.data:
            named |= {*data.historical, data.manifest or ""}
        if evaluation := generation.status.evaluation:
            named |= {holdout.manifest for holdout in evaluation.holdouts}
    return named - {""}


def _proposed(
    under_way: ModelGeneration | None, shared: tuple[ModelGeneration, str] | None, cursor: Cursor
) -> list[str]:
    evaluation = under_way.status.evaluation if under_way else None
    if evaluation and evaluation.holdouts and evaluation.holdouts[-1].outcome == "Suspect":
        before = {p for holdout in evaluation.holdouts[:-1] for p in holdout.partitions}
        newest = [p for p in evaluation.holdouts[-1].partitions if p not in before]
        named = newest or evaluation.holdouts[-1].partitions
        return [p for p in named if p not in cursor.quarantined]
    return [shared[1]] if under_way is None and shared else []
