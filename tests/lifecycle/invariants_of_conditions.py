"""Invariants of what users read: conditions and messages are true, and their requests are accepted.

They hold once nothing more is written, and nothing is seen late.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from lifecycle.generation_facts import (
    ENDS_A_HOLD,
    failed_import,
    held,
    in_progress,
    live_of,
    of_another_version,
    pinned_of,
    promotions,
)
from lifecycle.invariants_of_people import awaits

from springtide_operator.lifecycle.decide import decide

if TYPE_CHECKING:
    from collections.abc import Iterator

    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedTarget

NAMED = re.compile(r"\b([a-z]+(?:\.g\d+)?)@<token>")
SECOND = timedelta(seconds=1)


class ConditionInvariants:
    """Checks the conditions of an update at rest."""

    def check_conditions(self) -> None:
        seen = self.world.seen()
        self.nothing_is_written_at_rest(seen)
        self.named_requests_are_accepted(seen)
        self.check_notifications(seen)
        self.serving_is_true_where_every_target_serves()
        self.action_is_required_exactly_while_a_user_must_act()

    def nothing_is_written_at_rest(self, seen: Observation) -> None:
        """A second later nothing is written, unless something is due by then."""
        due = decide(seen, self.world.now).wake_after
        if due is None or due > SECOND:
            plan = decide(seen, self.world.now + SECOND)
            assert not plan.requeue, plan.actions
            assert plan.status == seen.update.status

    def named_requests_are_accepted(self, seen: Observation) -> None:
        """A user who does what a message says is not refused."""
        status = seen.update.status
        for text in {status.progress.waiting_for, *(each.message for each in status.conditions)}:
            for request in NAMED.findall(text):
                self.request_is_accepted(seen, request, text)

    def request_is_accepted(self, seen: Observation, request: str, text: str) -> None:
        spec = seen.update.spec
        if "spec.suspend" in text:  # it says to resume the update first
            spec = spec.model_copy(update={"suspend": False})
        if "spec.rollout.pin" in text:
            rollout = spec.rollout.model_copy(update={"pin": None})
            spec = spec.model_copy(update={"rollout": rollout})
        annotations = {"springtide.dev/request": f"{request}@as-named"}
        metadata = seen.update.metadata.model_copy(update={"annotations": annotations})
        update = seen.update.model_copy(update={"metadata": metadata, "spec": spec})
        handled = decide(replace(seen, update=update), self.world.now).status.last_request
        if handled and handled.token == "as-named":
            assert handled.result == "Accepted", (request, text, handled.message)
        else:
            assert self.world.refusals or seen.update.status.last_request is None

    def serving_is_true_where_every_target_serves(self) -> None:
        """Each runs live or what is pinned, or what rolls out, and has an available pod."""
        world = self.world
        there = list(world.generations.values())
        current = pinned_of(world.update, there) or live_of(there)
        allowed = {g.status.artifact.served_digest for g in there if g is current or _rolls(g)}
        targets = self._targets()
        serves = current is not None and all(
            _available(target, allowed) or self.serves_by_warm_pods(target.target.target_ref.name)
            for target in targets
        )
        found = world.condition("Serving")
        if not targets:
            assert found.status == ("Unknown" if current else "False")
            return
        assert (found.status == "True") == serves, found.message

    def action_is_required_exactly_while_a_user_must_act(self) -> None:
        found = self.world.condition("ActionRequired")
        why = sorted(set(self.reasons_to_act()))
        # A request that would end a hold may have been refused when it was made.
        open_ = found.reason == "RejectedTwice" or any(map(held, self.world.generations.values()))
        maybe = open_ and bool(ENDS_A_HOLD & set(self.world.asked))
        maybe = maybe or self.a_route_may_need_its_owner() or self.a_weight_may_not_be_possible()
        assert (found.status == "True") == bool(why) or (maybe and not why), (why, found.message)
        stalled = self.world.condition("Stalled")
        assert stalled is None or (stalled.reason, stalled.message) == (found.reason, found.message)

    def reasons_to_act(self) -> Iterator[str]:
        """Why a user must act, from the facts of the world."""
        there = list(self.world.generations.values())
        for refusal in self.world.refusals.values():
            if self.world.now < refusal.again_at:
                yield f"{refusal.subject} is refused"
        if self.world.update.spec.mode == "Enforce" or any(map(_rolls, there)):
            for target in self._targets():
                yield from self.reasons_of_target(target, there)
            yield from self.reasons_of_canary_edits(there)
            yield from self.reasons_of_warm_pods(there)
            yield from self.reasons_of_owners(there)
        yield from self.reasons_of_generations(there)
        yield from self.reasons_of_queues()
        yield from self.reasons_of_bake(there)
        yield from self.reasons_of_canary(there)
        if any(awaits(self.world.update, g) for g in there):
            yield "an approval"
        pin = self.world.update.spec.rollout.pin
        possible = {g.spec.number for g in promotions(there)}
        if pin and (pin.generation not in possible or self.world.update.spec.mode != "Enforce"):
            yield "a pin that is not possible"

    def reasons_of_generations(self, there: list[ModelGeneration]) -> Iterator[str]:
        """Why a user must decide on a generation, or on data."""
        status = self.world.update.status
        if self.world.update.spec.trigger.schedule == "99 * * * *":
            yield "an invalid schedule"
        for g in there:
            if of_another_version(g):
                yield "another version"
            elif held(g) and not self.answered(g):
                yield "a hold"
        yield from self.reasons_of_rollbacks(there)
        yield from self.reasons_at_rest(there)
        if failed_import(there, status.acknowledged_holds):
            yield "a failed import"
        if status.last_probe and status.last_probe.reason == "QuarantineFull":
            yield "a full quarantine"

    def reasons_of_rollbacks(self, there: list[ModelGeneration]) -> Iterator[str]:
        """Why a user must act after rollbacks."""
        if self._targets() and live_of(there) is None and any(_returns(g) for g in there):
            yield "nothing to return to"
        if self.freeze_counts(there):
            yield "several rollbacks in a row"

    def reasons_at_rest(self, there: list[ModelGeneration]) -> Iterator[str]:
        """Why a user must decide on rows before a run starts."""
        if any(in_progress(g) for g in there if self.counts(g)):
            return
        if self.rejected_twice(there, {*self.world.update.status.cursor.quarantined}):
            yield "rejected twice"
        if self.rows_rolled_back(there):
            yield "rows of a generation that was rolled back"

    def freeze_counts(self, there: list[ModelGeneration]) -> bool:
        """Whether as many rollbacks in a row were made as the spec allows."""
        most, current = self.world.update.spec.rollout.rollback.freeze_after, live_of(there)
        ends = [g.status.unfrozen_at for g in there if g.status.unfrozen_at]
        ends += [current.status.rollout.promoted_at] if current else []
        row = [
            g
            for g in there
            if g.status.rollout.rolled_back_at
            and not g.status.rollout.failure
            and all(g.status.rollout.rollback_started_at > end for end in ends)
        ]
        return most is not None and len(row) >= most

    def rows_rolled_back(self, there: list[ModelGeneration]) -> bool:
        """Whether rows of a generation that was live and is not any more are undecided on."""
        current, status = live_of(there), self.world.update.status
        quarantined = {*status.cursor.quarantined}
        return any(
            g.status.rollout.promoted_at
            and g.status.rollout.rollback_reason
            and not g.status.rollout.failure
            and (not current or g.status.rollout.promoted_at >= current.status.rollout.promoted_at)
            and f"{g.metadata.name}/rolled-back" not in status.acknowledged_holds
            and {*(g.spec.data.partitions if g.spec.data else ())} - quarantined
            for g in there
        )

    def reasons_of_target(
        self, target: ObservedTarget, there: list[ModelGeneration]
    ) -> Iterator[str]:
        """Why a user must act on a Deployment."""
        if not target.uid:
            yield "no Deployment"
            return
        yield from self.reasons_of_use(target)
        if target.foreign_manager:
            yield "another field manager"
        served = {g.status.artifact.served_digest for g in there if g.status.artifact}
        if target.digest is not None and target.digest not in served:
            yield "the value of another client"
        recorded = {each.name: each for each in self.world.update.status.targets}
        again = recorded[target.target.target_ref.name].reapplied_at
        recent = [at for at in again if self.world.now - at < timedelta(hours=1)]
        if target.digest is None and live_of(there) and len(recent) == 3:
            yield "fields removed too often"
        if target.desired == 0 and any(
            _rolls(g) and not g.status.rollout.rollback_reason for g in there
        ):
            yield "no pods to roll out to"

    def answered(self, g: ModelGeneration) -> bool:
        """Whether a request ended the hold of a generation.

        A quarantine of its suspect holdout does so too if it was restored with the update.
        """
        asked = self.world.asked[self.since.get(g.metadata.uid, 0) :]
        suspect = g.status.evaluation.holdouts[-1]
        left_out = suspect.outcome == "Suspect" and self.quarantined & {*suspect.partitions}
        return bool(ENDS_A_HOLD & set(asked) or left_out)

    def _targets(self) -> list[ObservedTarget]:
        world = self.world
        named = world.update.spec.rollout.targets
        return [world.as_declared(world.targets[each.target_ref.name], each) for each in named]


def _returns(generation: ModelGeneration) -> bool:
    """Whether it was promoted, and the targets are to go back from it."""
    rollout = generation.status.rollout
    promoted, reason = rollout.promoted_at, rollout.rollback_reason
    return bool(promoted and reason and not rollout.rolled_back_at)


def _rolls(g: ModelGeneration) -> bool:
    rollout = g.status.rollout
    if not rollout.step_started_at or rollout.rolled_back_at:
        return False
    return bool(rollout.rollback_reason or not rollout.promoted_at)


def _available(target: ObservedTarget, allowed: set[str]) -> bool:
    return target.digest in allowed and target.available > 0
