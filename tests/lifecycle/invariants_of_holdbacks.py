"""Invariants of a holdback: how much the previous generation has, who has it, and for how long."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from lifecycle.generation_facts import digest_of, in_progress, live_of
from lifecycle.invariants_of_warm_pods import kept_warm, pods_of_share, share_of

from springtide_api.names import canary_name

if TYPE_CHECKING:
    from springtide_api.generation.rollout import RolloutStatus
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.routes.observed import ObservedRoute
    from springtide_operator.lifecycle.routes.weights import WeightChange
    from springtide_operator.lifecycle.state.observation import Observation

DRAIN = timedelta(seconds=15)


class HoldbackInvariants:
    """Checks what gives pods of the previous generation requests in a bake."""

    def a_share_is_the_declared_one_and_goes_to_ready_pods_of_previous(
        self, seen: Observation, target: str, canary: WeightChange, total: int
    ) -> None:
        """Never to a generation that was rolled back."""
        back, share = kept_warm(seen.update, list(seen.generations)), share_of(seen.update)
        assert back, "nothing is kept"
        assert share, "no share is declared"
        assert canary.after == (2 * total * share + 100) // 200
        (there,) = [c for c in seen.canaries if c.name == canary_name(target)]
        pods = there.deployment
        assert there.ours
        assert (there.edited_by, pods.deleting) == ("", False)
        assert (pods.number, pods.digest) == (back.spec.number, digest_of(back))
        assert pods.digest not in self.rolled_back
        (own,) = [t for t in seen.targets if t.target.target_ref.name == target]
        ready = min(pods.available, seen.routings[target].ready_endpoints)
        assert own.desired
        assert ready >= (pods_of_share(share, own) if canary.after > canary.before else 1)
        live = live_of(list(seen.generations))
        (recorded,) = [each.route for each in live.status.rollout.targets if each.name == target]
        assert recorded.withdrawn_at is None, "the status says so before"

    def a_share_at_rest_is_the_declared_one(self, generations: list[ModelGeneration]) -> None:
        """Or none, where pods are missing; the operator has left no other weight."""
        back, live = kept_warm(self.world.update, generations), live_of(generations)
        share = share_of(self.world.update) if back else 0
        recorded = (
            [each.route for each in live.status.rollout.targets if each.route] if live else []
        )
        # A share that rises waits for its pods.
        shares = {0, share, *(each.weight for each in recorded if each.weight <= share)}
        for route in self.world.routes.values():
            for stable, canary in _pairs(route):
                total = stable + canary
                assert canary in {(2 * total * each + 100) // 200 for each in shares}, shares
        if live and live.status.rollout.holdback_seen_at:
            assert {each.weight for each in recorded} <= {0, share}
            assert share
            assert [g for g in generations if in_progress(g) and _rolls(g)] == []

    def a_bake_drains(self, generations: list[ModelGeneration]) -> bool:
        """Whether pods of previous have lost their share a moment ago: they stay for 15 s.

        Where no record of a live generation is left, the last write of a route tells since when.
        """
        live = live_of(generations)
        if live is None:
            times = [each.changed_at for each in self.world.routes.values()]
        elif live.status.rollout.bake_started_at is None:
            return False
        else:
            routes = [each.route for each in live.status.rollout.targets if each.route]
            times = [each.withdrawn_at for each in routes]
        return any(self.world.now - each < DRAIN for each in times if each)

    def evidence_of_a_bake_counts_from_its_share(
        self, old: RolloutStatus, new: RolloutStatus
    ) -> None:
        assert old.bake_until
        assert not old.baked_at
        assert old.holdback_seen_at == new.holdback_seen_at
        assert new.holdback_seen_at
        changed = [each for each in new.comparisons if each not in old.comparisons]
        assert {(each.phase, each.since) for each in changed} <= {("Bake", new.holdback_seen_at)}
        steps = [each for each in old.comparisons if each.phase == "Canary"]
        names = {each.metric for each in new.comparisons if each.phase == "Canary"}
        kept = [each for each in steps if each.metric in names]
        assert [each for each in new.comparisons if each.phase == "Canary"] == kept


def _pairs(route: ObservedRoute) -> list[tuple[int, int]]:
    """The weights of each Service and its canary."""
    found = {(b.rule, b.name): b.weight for b in route.backends}
    return [
        (weight, found[rule, f"{name}-canary"])
        for (rule, name), weight in found.items()
        if (rule, f"{name}-canary") in found
    ]


def _rolls(g: ModelGeneration) -> bool:
    return g.status.rollout.step_started_at is not None
