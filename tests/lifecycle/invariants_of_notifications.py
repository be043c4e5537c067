"""Invariants of notifications: every recorded fact has one, under an id that stays."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from springtide_operator.lifecycle.decide import decide

if TYPE_CHECKING:
    from collections.abc import Iterator

    from springtide_operator.lifecycle.state.observation import Observation

VERDICTS = {"Accepted", "Rejected", "Inconclusive", "Failed"}


class NotificationInvariants:
    """Checks the notifications of an update at rest."""

    def check_notifications(self, seen: Observation) -> None:
        found = decide(seen, self.world.now).notifications
        assert Counter((each.uid, each.kind) for each in found) == Counter(self.facts_to_notify())
        assert len({each.id for each in found}) == len(found)
        for each in found:
            asked = each.generation if each.reason == "AwaitingApproval" else ""
            fact = each.uid, each.kind, each.at, asked
            assert self.notified.setdefault(each.id, fact) == fact

    def facts_to_notify(self) -> Iterator[tuple[str, str]]:
        """Object and kind of every notification that the facts of the world require."""
        for g in self.world.generations.values():
            status, uid = g.status, g.metadata.uid
            if status.retired_reason:
                yield uid, "retired"
            elif status.verdict in VERDICTS:
                yield uid, "verdict"
            if status.rollout.promoted_at:
                yield uid, "promoted"
            if status.rollout.rollback_reason:
                yield uid, "rollbackstarted"
            if status.rollout.rolled_back_at:
                yield uid, "rolledback"
        if self.world.condition("ActionRequired").status == "True":
            yield self.world.update.metadata.uid, "actionrequired"
