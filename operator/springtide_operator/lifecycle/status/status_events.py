"""Events of the update, derived from the change of its status: a crash loses none.

They are posted before the status is written, and follow from the same difference until it is.
Events of a generation come with the step that causes them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from springtide_operator.lifecycle.evaluation.approval import AWAITING, BY_APPROVER
from springtide_operator.lifecycle.evaluation.modes import OBSERVED, TRAINED_ONLY
from springtide_operator.lifecycle.rollout.live_message import live_message
from springtide_operator.lifecycle.state.plan import Event

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Literal

    from springtide_api.objects import ModelGeneration
    from springtide_api.update.status import GenerationRef, UpdateStatus

ENDS: dict[str, Literal["Normal", "Warning"]] = {
    BY_APPROVER: "Warning",
    OBSERVED: "Normal",
    TRAINED_ONLY: "Normal",
}
"""Reasons of retirements that are Events of the update."""

ENDED = frozenset({"RolledBack", "RolloutFailed"})
"""Outcomes of generations that were rolled back."""

VERDICTS: dict[str, Literal["Normal", "Warning"]] = {
    "Accepted": "Normal",
    "Rejected": "Warning",
    "Inconclusive": "Warning",
    "Failed": "Warning",
}


def status_events(
    old: UpdateStatus, new: UpdateStatus, generations: Iterable[ModelGeneration] = ()
) -> tuple[Event, ...]:
    """Return the Events for the change from one status to the next.

    Args:
        old: the status as it is.
        new: the status that will be written.
        generations: as the new status describes them; for promotions and reasons of rollbacks.
    """
    new = _without_returned(old, new)
    found = [*_stops(old, new), *_approval(old, new), *_ends(old, new), *_pin(old, new)]
    if old.observed_generation:  # else it was recreated, and nothing of this is new
        found += _verdicts(old, new)
        found += [*_promotion(old, new, generations), *_rollback(old, new, generations)]
    return tuple(found)


def _without_returned(old: UpdateStatus, new: UpdateStatus) -> UpdateStatus:
    """The new status without what is in the history again because others left it: no news."""
    known = {entry.number for entry in old.history}
    newest = max(known, default=-1)
    history = [each for each in new.history if each.number in known or each.number > newest]
    return new if history == new.history else new.model_copy(update={"history": history})


def _stops(old: UpdateStatus, new: UpdateStatus) -> Iterator[Event]:
    """A new stall, conflict or freeze."""
    before = {(c.type, c.status, c.reason) for c in old.conditions}
    stalled = any(c.type == "Stalled" for c in new.conditions)
    for c in new.conditions:
        conflict = c.type == "TargetsInSync" and c.status == "False" and not stalled
        conflict |= c.type == "ActionRequired" and c.reason == "Frozen"
        if (c.type == "Stalled" or conflict) and (c.type, c.status, c.reason) not in before:
            yield Event(c.reason, c.message, "Warning")


def _verdicts(old: UpdateStatus, new: UpdateStatus) -> Iterator[Event]:
    before = {entry.number: entry.verdict for entry in old.history}
    run = new.last_run
    for entry in reversed(new.history):
        kind, name = VERDICTS.get(entry.verdict), _name(new, entry.number)
        newest = run is not None and run.generation == name
        detail = run.message if run and newest else ""
        again = newest and old.last_run is not None and old.last_run.message != detail
        same = before.get(entry.number) == entry.verdict
        if kind is None or (same and not (again and entry.verdict == "Inconclusive")):
            continue
        message = f"{name}: {entry.reason}: {detail}" if detail else f"{name}: {entry.reason}"
        yield Event(entry.verdict, message[:1024], kind)


def _approval(old: UpdateStatus, new: UpdateStatus) -> Iterator[Event]:
    """A generation that waits for approval."""
    before = {(c.type, c.status, c.reason, c.message) for c in old.conditions}
    for c in new.conditions:
        waits = (c.type, c.reason) == ("ActionRequired", AWAITING)
        if waits and (c.type, c.status, c.reason, c.message) not in before:
            yield Event(c.reason, c.message)


def _ends(old: UpdateStatus, new: UpdateStatus) -> Iterator[Event]:
    """A candidate that was retired because of a person, or of spec.mode."""
    known = {entry.number: entry.reason for entry in old.history}
    for entry in new.history:
        if entry.reason in ENDS and known.get(entry.number, entry.reason) != entry.reason:
            run, name = new.last_run, _name(new, entry.number)
            detail = run.message if run and run.generation == name else ""
            yield Event(entry.reason, f"{name}: {detail}"[:1024], ENDS[entry.reason])


def _rollbacks(status: UpdateStatus) -> set[int]:
    """Numbers of the generations whose rollback began; a phase says less, it may be Invalid."""
    return {entry.number for entry in status.history if entry.reason in ENDED}


def _name(status: UpdateStatus, number: int) -> str:
    """Name of a generation, derived from the name of the newest run."""
    known = status.last_run.generation if status.last_run else ""
    return f"{known.rpartition('-g')[0]}-g{number}"


def _promotion(
    old: UpdateStatus, new: UpdateStatus, generations: Iterable[ModelGeneration]
) -> Iterator[Event]:
    if new.live is None or (old.live and _since(new.live) <= _since(old.live)):
        return  # unchanged, or live again after a rollback
    for live in (g for g in generations if g.metadata.name == new.live.name):
        message = live_message(live, (target.name for target in new.targets))
        yield Event("Promoted", message[:1024])


def _since(ref: GenerationRef) -> tuple[datetime, int]:
    """The order of promotions."""
    return ref.since or datetime.min.replace(tzinfo=UTC), ref.number


def _pin(old: UpdateStatus, new: UpdateStatus) -> Iterator[Event]:
    before, now = old.pinned, new.pinned
    live = new.live.name if new.live else ""
    if now and (before is None or before.name != now.name):
        message = f"{now.name} is pinned: every target gets it at once; live is {live}"
        yield Event("Pinned", message)
    if before and now is None:
        yield Event("Unpinned", f"{before.name} is no longer pinned; the targets serve {live}")


def _rollback(
    old: UpdateStatus, new: UpdateStatus, generations: Iterable[ModelGeneration]
) -> Iterator[Event]:
    reasons = {g.spec.number: g.status.rollout.rollback_reason for g in generations}
    for number in sorted(_rollbacks(new) - _rollbacks(old)):
        yield Event("RollbackStarted", f"{_name(new, number)}: {reasons.get(number)}", "Warning")
    before, served = _ended(old), new.pinned or new.live
    failed = {entry.number for entry in new.history if entry.outcome == "RolloutFailed"}
    for number in sorted(_ended(new) - before):
        serves = f"the targets serve {served.name}" if served else "nothing was live before"
        if served and not new.targets:
            serves = f"{served.name} is live"
        name = _name(new, number)
        message = f"{name} is rolled back and will not be served again; {serves}"
        if number in failed:
            message = f"the rollout of {name} failed, not for a cause of its own; {serves}"
        yield Event("RollbackCompleted", message, "Warning")


def _ended(status: UpdateStatus) -> set[int]:
    """Numbers of the generations whose rollback is complete."""
    return {entry.number for entry in status.history if entry.outcome in ENDED}
