"""From facts to plan: an ordered list of stages; the first that has something to say counts.

Pure: the same observation and moment give the same plan. The order is the life of an update, the
farthest along first, so that what began is finished before something new begins.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from springtide_operator.lifecycle.adoption import adopt
from springtide_operator.lifecycle.deletion import hold_on, let_go
from springtide_operator.lifecycle.evaluation import evaluate
from springtide_operator.lifecycle.initial import import_initial
from springtide_operator.lifecycle.phases import with_phases
from springtide_operator.lifecycle.plan import Plan, Step, WriteGeneration
from springtide_operator.lifecycle.probe import take
from springtide_operator.lifecycle.references import check
from springtide_operator.lifecycle.requests import answer, record
from springtide_operator.lifecycle.retirement import forget, retire, tidy
from springtide_operator.lifecycle.rollout import roll_out
from springtide_operator.lifecycle.summary import announcements, summarise
from springtide_operator.lifecycle.targets import restore
from springtide_operator.lifecycle.training import train
from springtide_operator.lifecycle.trigger import look

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from springtide_operator.lifecycle.observation import Observation

STAGES: tuple[Callable[[Observation, datetime], Step | None], ...] = (
    let_go,
    record,  # before anything writes history
    adopt,  # before any import or run: live is the newest promotion, whoever made it
    answer,
    retire,
    tidy,  # a result is in status by now
    hold_on,  # before the first apply of a roll, and after its end
    roll_out,
    restore,
    evaluate,
    train,
    check,  # from here on something new would begin
    import_initial,
    take,
    forget,
    look,
)


def decide(seen: Observation, now: datetime) -> Plan:
    """Say what should happen next to one update."""
    step = next((said for stage in STAGES if (said := stage(seen, now)) is not None), Step())
    after = _applied(seen, step)
    status = summarise(after, step, now)
    actions = with_phases(after, step.actions)
    return Plan(
        actions=actions,
        events=(*step.events, *announcements(seen.update.status, status)),
        status=status,
        wake_after=step.wake_after,
        facts=bool(step.facts),
    )


def _applied(seen: Observation, step: Step) -> Observation:
    """The observation as it will be once the step's own status writes are done."""
    written = {a.name: a.status for a in step.actions if isinstance(a, WriteGeneration)}
    generations = tuple(
        g.model_copy(update={"status": written[g.metadata.name]})
        if g.metadata.name in written
        else g
        for g in seen.generations
    )
    status = seen.update.status.model_copy(update=dict(step.facts))
    update = seen.update.model_copy(update={"status": status})
    return replace(seen, update=update, generations=generations)
