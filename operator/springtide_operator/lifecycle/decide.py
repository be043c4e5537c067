"""From facts to plan: an ordered list of stages; the first that has something to say counts.

Pure: the same observation and moment give the same plan. The order is the life of an update, the
farthest along first, so that what began is finished before something new begins.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from springtide_operator.lifecycle.adoption import adopt
from springtide_operator.lifecycle.announcements import announcements
from springtide_operator.lifecycle.deletion import hold_on, let_go
from springtide_operator.lifecycle.evaluation import evaluate
from springtide_operator.lifecycle.initial import import_initial
from springtide_operator.lifecycle.observation import Unreadable
from springtide_operator.lifecycle.outcome import described
from springtide_operator.lifecycle.plan import TOO_MANY_PROBES, Plan, Step, WriteGeneration
from springtide_operator.lifecycle.probe import take
from springtide_operator.lifecycle.references import CHECK, check
from springtide_operator.lifecycle.refusals import holding, waiting_for
from springtide_operator.lifecycle.requests import answer, record
from springtide_operator.lifecycle.retirement import forget, retire, tidy
from springtide_operator.lifecycle.rollout import roll_out
from springtide_operator.lifecycle.summary import summarise, unreadable
from springtide_operator.lifecycle.targets import restore
from springtide_operator.lifecycle.training import train
from springtide_operator.lifecycle.trigger import look
from springtide_operator.lifecycle.unknown import leave_alone, leave_rollout_alone

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta

    from springtide_operator.lifecycle.observation import Observation

STAGES: tuple[Callable[[Observation, datetime], Step | None], ...] = (
    let_go,
    record,  # before anything writes history
    adopt,  # before any import or run: live is the newest promotion, whoever made it
    answer,
    retire,
    tidy,  # a result is in status by now
    leave_rollout_alone,
    hold_on,  # before the first apply of a roll, and after its end
    roll_out,
    restore,
    evaluate,
    train,
    leave_alone,
    check,  # from here on something new would begin
    import_initial,
    take,
    forget,
    look,
)


SERVING = frozenset({leave_rollout_alone, hold_on, roll_out, restore})
"""Stages that do not wait for a refused deletion: they alone touch what shoppers are served by."""

BEGUN = SERVING | {retire, tidy, evaluate, train, leave_alone, check, take}
"""Stages that do not wait for the refused Job of a request: they finish what began, and may free
the quota that refuses it."""

GO_ON = {adopt: SERVING, tidy: SERVING, answer: BEGUN}
"""Stages that hold not all after them where one of their writes is refused: which ones go on."""

OPTIONAL = frozenset({restore, forget})
"""Stages that no other waits for: where such a write is refused, the next stage decides."""


def decide(seen: Observation | Unreadable, now: datetime) -> Plan:
    """Say what should happen next to one update."""
    if isinstance(seen, Unreadable):
        status = unreadable(seen, now)
        said = announcements(seen.status, status)
        return Plan((), (), status, CHECK, announcements=said)
    seen = replace(seen, now=now)
    step = _next_step(seen, now)
    after = _applied(seen, step)
    status = summarise(after, step, now)
    return Plan(
        actions=described(seen, after, step.actions, now),
        events=step.events,
        status=status,
        announcements=announcements(seen.update.status, status),
        wake_after=_wake_after(seen, step, now),
        facts=bool(step.facts),
        waits_for_turn=step.waiting is not None and step.waiting.reason == TOO_MANY_PROBES,
    )


def _next_step(seen: Observation, now: datetime) -> Step:
    """The step of the first stage that has one; held, where one of its writes is refused."""
    held, open_now = None, frozenset(STAGES)
    for stage in STAGES:
        if stage not in open_now or (step := stage(seen, now)) is None:
            continue
        refusal = holding(seen, step, now)
        if refusal is None:
            idle = held and stage not in SERVING and not (step.actions or step.facts)
            return replace(step, waiting=waiting_for(held)) if held and idle else step
        if stage in GO_ON:
            held, open_now = held or refusal, open_now & GO_ON[stage]
        elif stage not in OPTIONAL:
            return Step(waiting=waiting_for(refusal), wake_after=refusal.again_at - now)
    return Step(waiting=waiting_for(held)) if held else Step()


def _wake_after(seen: Observation, step: Step, now: datetime) -> timedelta | None:
    """When to decide again: as the step says, or when a refused write is due."""
    due = [each.again_at - now for each in seen.refusals if each.waits(now)]
    return min([*due, *([] if step.wake_after is None else [step.wake_after])], default=None)


def _applied(seen: Observation, step: Step) -> Observation:
    """The observation as it will be once the step's own status writes are done."""
    if not step.actions and not step.facts:
        return seen
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
