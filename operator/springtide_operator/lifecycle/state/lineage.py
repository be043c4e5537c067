"""The lineage of an update: live, previous and candidate generation, parent and cursor.

`Observation.lineage` derives it once from the generations: live and cursor are those of the newest
promotedAt without a rollback. From the decision to roll live back on, the one before it is live.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from springtide_api.names import generation_name
from springtide_operator.lifecycle.state.generations import (
    baking,
    excluded_generations,
    finished,
    never_served_again,
    rolling,
    servable,
    unknown_value,
)
from springtide_operator.lifecycle.state.generations import promoted as is_promoted
from springtide_operator.lifecycle.state.rejections import (
    proposed_quarantine,
    rolled_back_windows,
    shared_rejection,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from springtide_api.objects import IncrementalUpdate, ModelGeneration
    from springtide_api.update.status import Cursor, HistoryEntry
    from springtide_operator.lifecycle.state.observed import ObservedTarget


@dataclass(frozen=True)
class Lineage:
    """The roles of the generations and the cursor: derived once, then passed on.

    Stages, conditions and summary read the same value, so that they cannot disagree.
    """

    promoted: tuple[ModelGeneration, ...]
    """Generations that were promoted and may be served, the newest promotion first: none that was
    rolled back, nor another with its weights, nor one whose files are being deleted."""
    barred: frozenset[str]
    """Digests that are never served again: those of generations that were rolled back."""
    excluded: tuple[int, ...]
    """Numbers of generations that were rolled back: rows that they served are left out."""
    initial: ModelGeneration | None
    """Generation 0; where its import failed and was retried, the newest."""
    unknown: ModelGeneration | None
    """An unfinished generation with a status value of another version: nothing starts beside
    it."""
    candidate: ModelGeneration | None
    """The one generation in progress: the one that rolls out or back, else the lowest unfinished
    number. There is a second one only until it retires because its parent was rolled back."""
    pinned: ModelGeneration | None
    """The generation that spec.rollout.pin makes the targets serve. Where it names one that cannot
    be pinned, the one that was pinned before, if any."""
    returning: bool
    """The pin was removed, and a target may not serve live yet."""
    bake_stopped: bool
    """A generation was pinned, and the targets are not known to be back on live: they serve it,
    even if the pin is not possible any more."""
    cursor: datetime | None
    """Rows from here on are new. None: from the first row."""
    released: tuple[str, ...]
    """Partitions released since the live generation was promoted: they join the next window."""
    training_only: tuple[str, ...]
    """Partitions that were quarantined once and no promoted generation was trained on yet."""
    shared_rejection: tuple[ModelGeneration, str] | None
    """The second of two rejections in a row that share a training partition, and the newest shared.
    A third such run does not start: it would fail on the same rows."""
    rolled_back: tuple[ModelGeneration, ...]
    """Generations rolled back after their promotion on whose rows no user decided: no run starts,
    as it could be trained on the same rows."""
    proposed_for_quarantine: tuple[str, ...]
    """Partitions proposed for quarantine: those of a suspect holdout, of a generation that was
    rolled back after its promotion, or of a shared rejection."""
    next_number: int
    """A number that was never used: above every generation, target and entry of the history."""
    next_name: str
    """Name of the next generation."""

    @property
    def live(self) -> ModelGeneration | None:
        """The generation that was promoted last and not rolled back."""
        return self.promoted[0] if self.promoted else None

    @property
    def previous(self) -> ModelGeneration | None:
        """The generation that was live before, which a rollback returns to."""
        return self.promoted[1] if len(self.promoted) > 1 else None

    @property
    def served(self) -> ModelGeneration | None:
        """The generation that targets serve outside a rollout: the pinned one, else live."""
        return self.pinned or self.live

    @property
    def baking(self) -> ModelGeneration | None:
        """The live generation, if it bakes and is served: a pin stops the bake."""
        return None if self.pinned or self.bake_stopped else baking(self.live)

    @property
    def rolls(self) -> ModelGeneration | None:
        """The generation whose rollout or rollback is in progress, of another version included."""
        return next((g for g in (self.unknown, self.candidate) if g and rolling(g)), None)

    @property
    def parent(self) -> ModelGeneration | None:
        """The generation whose weights the next run continues from: live, else generation 0."""
        if self.live is not None:
            return self.live
        return self.initial if self.initial and self.initial.status.artifact else None

    @property
    def baseline(self) -> ModelGeneration | None:
        """The generation that the next candidate is compared with: live, else generation 0.

        Generation 0 only if it has a trained head and was not rolled out, because of spec.mode.
        """
        initial = self.initial
        if self.live is not None or initial is None or not servable(initial):
            return self.live
        return initial if initial.status.rollout.step_started_at is None else None


def derive(
    update: IncrementalUpdate,
    generations: tuple[ModelGeneration, ...],
    targets: Iterable[ObservedTarget],
) -> Lineage:
    """Derive the lineage from the generations: no pointer is stored, so none can be stale."""
    status = update.status
    barred = never_served_again(generations)
    promoted = _promoted(generations, barred)
    live = promoted[0] if promoted else None
    unfinished = [g for g in generations if not finished(g)]
    known = [g for g in unfinished if not unknown_value(g)]
    under_way = next((g for g in known if rolling(g)), None) or next(
        (g for g in known if not _initial_at_rest(update, g, known)), None
    )
    shared = shared_rejection(generations, status)
    back = rolled_back_windows(generations, live, status)
    number = _next_number(generations, targets, status.history)
    initial = update.spec.model.initial
    return Lineage(
        promoted=promoted,
        barred=barred,
        excluded=excluded_generations(generations),
        initial=_initial(generations),
        unknown=next((g for g in unfinished if unknown_value(g)), None),
        candidate=under_way,
        pinned=_pinned(update, promoted),
        returning=status.pinned is not None and update.spec.rollout.pin is None,
        bake_stopped=status.pinned is not None,
        cursor=live.status.trained_through if live else initial.trained_through,
        released=_released(live, status.cursor),
        training_only=_training_only(generations, promoted, status.cursor),
        shared_rejection=shared,
        rolled_back=back,
        proposed_for_quarantine=tuple(proposed_quarantine(under_way, shared, back, status.cursor)),
        next_number=number,
        next_name=generation_name(update.metadata.name, number),
    )


def _initial_at_rest(
    update: IncrementalUpdate, generation: ModelGeneration, others: Iterable[ModelGeneration]
) -> bool:
    """Whether an imported model with a trained head is only a parent for now.

    It is not rolled out while spec.mode writes no target, nor while a run goes on that was trained
    from it meanwhile.
    """
    if generation.spec.origin != "Imported" or generation.status.artifact is None:
        return False
    name = generation.metadata.name
    children = (g for g in others if g.spec.parent and g.spec.parent.name == name)
    return update.spec.mode != "Enforce" or any(children)


def _pinned(
    update: IncrementalUpdate, promoted: Iterable[ModelGeneration]
) -> ModelGeneration | None:
    pin, before = update.spec.rollout.pin, update.status.pinned
    if pin is None or update.spec.mode != "Enforce":
        return None
    possible = {g.spec.number: g for g in promoted}
    return possible.get(pin.generation) or (possible.get(before.number) if before else None)


def _promoted(
    generations: Iterable[ModelGeneration], barred: frozenset[str]
) -> tuple[ModelGeneration, ...]:
    served = (
        g
        for g in generations
        if is_promoted(g)
        and not g.status.files_deleted_at
        and not (g.status.artifact and g.status.artifact.served_digest in barred)
    )
    return tuple(sorted(served, key=_promotion, reverse=True))


def _promotion(generation: ModelGeneration) -> tuple[datetime, int]:
    moment = generation.status.rollout.promoted_at
    assert moment is not None
    return moment, generation.spec.number


def _initial(generations: Iterable[ModelGeneration]) -> ModelGeneration | None:
    brought = [g for g in generations if g.spec.origin == "Imported"]
    return max(brought, key=lambda g: (g.status.artifact is not None, g.spec.number), default=None)


def _next_number(
    generations: Iterable[ModelGeneration],
    targets: Iterable[ObservedTarget],
    history: Iterable[HistoryEntry],
) -> int:
    known = [g.spec.number for g in generations]
    known += [t.highest_number for t in targets if t.highest_number is not None]
    known += [entry.number for entry in history]
    return max(known, default=-1) + 1


def _released(live: ModelGeneration | None, cursor: Cursor) -> tuple[str, ...]:
    if live is None:
        return ()
    return tuple(p for p in live.status.quarantined if p not in cursor.quarantined)


def _training_only(
    generations: Iterable[ModelGeneration],
    promoted: Iterable[ModelGeneration],
    cursor: Cursor,
) -> tuple[str, ...]:
    """Those of the cursor, and those that only a generation was trained on that was rolled back."""
    recorded = {r.partition for g in generations for r in g.status.quarantine_records}
    back = [g for g in generations if g.status.rollout.promoted_at and not is_promoted(g)]
    released = {*cursor.released} | (recorded & _trained_on(back))
    return tuple(sorted(released - {*cursor.quarantined} - _trained_on(promoted)))


def _trained_on(generations: Iterable[ModelGeneration]) -> set[str]:
    return {name for g in generations if g.spec.data for name in g.spec.data.partitions}
