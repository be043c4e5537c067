"""The lineage of an update: live, previous and candidate generation, parent and cursor.

`Observation.lineage` derives it once from the generations: live and cursor are those of the newest
promotedAt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from springtide_api.names import generation_name
from springtide_operator.lifecycle.state.generations import finished, rolling, unknown_value
from springtide_operator.lifecycle.state.rejections import proposed_quarantine, shared_rejection

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
    """Generations that were promoted, the newest promotion first."""
    initial: ModelGeneration | None
    """Generation 0; where its import failed and was retried, the newest."""
    unknown: ModelGeneration | None
    """An unfinished generation with a status value of another version: nothing starts beside
    it."""
    candidate: ModelGeneration | None
    """The one generation in progress, the lowest unfinished number. There are never two."""
    cursor: datetime | None
    """Rows from here on are new. None: from the first row."""
    released: tuple[str, ...]
    """Partitions released since the live generation was promoted: they join the next window."""
    training_only: tuple[str, ...]
    """Partitions that were quarantined once and no promoted generation was trained on yet."""
    shared_rejection: tuple[ModelGeneration, str] | None
    """The second of two rejections in a row that share a training partition, and the newest shared.
    A third such run does not start: it would fail on the same rows."""
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
    def rolls(self) -> ModelGeneration | None:
        """The generation whose rollout or rollback is in progress, of another version included."""
        return next((g for g in (self.unknown, self.candidate) if g and rolling(g)), None)

    @property
    def parent(self) -> ModelGeneration | None:
        """The generation whose weights the next run continues from: live, else generation 0."""
        if self.live is not None:
            return self.live
        return self.initial if self.initial and self.initial.status.artifact else None


def derive(
    update: IncrementalUpdate,
    generations: tuple[ModelGeneration, ...],
    targets: Iterable[ObservedTarget],
) -> Lineage:
    """Derive the lineage from the generations: no pointer is stored, so none can be stale."""
    status = update.status
    promoted = tuple(sorted((g for g in generations if _promoted(g)), key=_promotion, reverse=True))
    live = promoted[0] if promoted else None
    unfinished = [g for g in generations if not finished(g)]
    under_way = next((g for g in unfinished if not unknown_value(g)), None)
    shared = shared_rejection(generations, status)
    number = _next_number(generations, targets, status.history)
    initial = update.spec.model.initial
    return Lineage(
        promoted=promoted,
        initial=_initial(generations),
        unknown=next((g for g in unfinished if unknown_value(g)), None),
        candidate=under_way,
        cursor=live.status.trained_through if live else initial.trained_through,
        released=_released(live, status.cursor),
        training_only=_training_only(promoted, status.cursor),
        shared_rejection=shared,
        proposed_for_quarantine=tuple(proposed_quarantine(under_way, shared, status.cursor)),
        next_number=number,
        next_name=generation_name(update.metadata.name, number),
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


def _training_only(promoted: Iterable[ModelGeneration], cursor: Cursor) -> tuple[str, ...]:
    trained = {name for g in promoted if g.spec.data for name in g.spec.data.partitions}
    return tuple(sorted({*cursor.released} - {*cursor.quarantined} - trained))
