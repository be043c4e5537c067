"""Invariants of what users read: conditions and messages are true, and their requests are accepted.

They hold once nothing more is written, and nothing is seen late.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from lifecycle.generation_facts import live_of

from springtide_operator.lifecycle.decide import decide

if TYPE_CHECKING:
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedTarget

NAMED = re.compile(r"\b([a-z]+)@<token>")


class ConditionInvariants:
    """Checks the conditions of an update at rest."""

    def check_conditions(self) -> None:
        seen = self.world.seen()
        self.nothing_is_written_at_rest(seen)
        self.named_requests_are_accepted(seen)
        self.serving_is_true_where_every_target_serves()

    def nothing_is_written_at_rest(self, seen: Observation) -> None:
        plan = decide(seen, self.world.now + timedelta(seconds=1))
        if not (plan.requeue or seen.refusals):
            assert plan.status == seen.update.status

    def named_requests_are_accepted(self, seen: Observation) -> None:
        """A user who does what a message says is not refused."""
        status = seen.update.status
        required = next(c.message for c in status.conditions if c.type == "ActionRequired")
        text, spec = f"{required} {status.progress.waiting_for}", seen.update.spec
        if "spec.suspend" in text:  # it says to resume the update first
            spec = spec.model_copy(update={"suspend": False})
        for verb in NAMED.findall(text):
            annotations = {"springtide.dev/request": f"{verb}@as-named"}
            metadata = seen.update.metadata.model_copy(update={"annotations": annotations})
            update = seen.update.model_copy(update={"metadata": metadata, "spec": spec})
            handled = decide(replace(seen, update=update), self.world.now).status.last_request
            if handled and handled.token == "as-named":
                assert handled.result == "Accepted", (verb, required, handled.message)
            else:
                assert self.world.refusals or self.world.update.status.last_request is None

    def serving_is_true_where_every_target_serves(self) -> None:
        """Each runs live, or what was accepted and rolls out, and has an available pod."""
        world = self.world
        there = list(world.generations.values())
        current = live_of(there)
        allowed = {g.status.artifact.served_digest for g in there if g is current or _rolls(g)}
        serves = current is not None and all(map(_available, self._targets(), [allowed] * 4))
        found = world.condition("Serving")
        assert (found.status == "True") == serves, found.message

    def _targets(self) -> list[ObservedTarget]:
        named = self.world.update.spec.rollout.targets
        return [self.world.targets[each.target_ref.name] for each in named]


def _rolls(g: ModelGeneration) -> bool:
    rollout = g.status.rollout
    return bool(rollout.step_started_at and not rollout.promoted_at and not rollout.rolled_back_at)


def _available(target: ObservedTarget, allowed: set[str]) -> bool:
    return target.digest in allowed and target.available > 0
