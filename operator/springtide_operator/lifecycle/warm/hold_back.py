"""Gives pods of the previous generation their share of the requests in a bake, and takes it back.

Order: ready endpoints; status, from which on a route may lead to them, with the share; one patch
for each route; `holdbackSeenAt`, from which on the comparison counts. The end of the bake takes the
share back by the rules of a canary: weight 0, the drain, then its pods.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from springtide_api.names import FINALIZER, canary_name
from springtide_operator.lifecycle.canary.gateway import is_shown, new_route, weight_patch
from springtide_operator.lifecycle.rollout.rollout_status import with_rollout
from springtide_operator.lifecycle.state.plan import Event, Step, subject
from springtide_operator.lifecycle.state.recorded_times import is_ahead
from springtide_operator.lifecycle.traffic.withdrawal import (
    is_unknown,
    routes_back,
    withdraw_traffic,
)
from springtide_operator.lifecycle.warm.report import standby_problem
from springtide_operator.lifecycle.warm.share import (
    changed_weights,
    is_given,
    route_in_bake,
    wanted_share,
)
from springtide_operator.lifecycle.warm.standby import holdback, standby, standby_targets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from springtide_api.generation.rollout import RolloutRoute, RolloutTarget
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.routes.actions import SetRouteWeights
    from springtide_operator.lifecycle.routes.observed import ObservedRouting
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedTarget


@dataclass(frozen=True)
class _Shared:
    """A target, and the share that pods of the previous generation should have."""

    target: ObservedTarget
    route: RolloutRoute
    routing: ObservedRouting
    share: int

    @property
    def name(self) -> str:
        return self.target.target.target_ref.name

    @property
    def patch(self) -> SetRouteWeights | None:
        return weight_patch(self.route, self.routing, self.share)


def hold_back(seen: Observation, now: datetime) -> Step | None:
    """Write the next of what brings every route to the share that it should have."""
    live = seen.lineage.live
    if live is None or standby(seen) is None or FINALIZER not in seen.update.metadata.finalizers:
        return None
    there = list(_shared(seen))
    if step := _unrecorded(seen, live, there):
        return step
    free = [each for each in there if changed_weights(seen, each.target) is None]
    lost = {each.name for each in free if not each.share and is_given(each.route)}
    if step := withdraw_traffic(seen, routes_back(seen).keys() - lost, now):
        return step
    given = [e for e in free if e.share and standby_problem(seen, e.target) is None]
    if facts := _intended(seen, live, given):
        return Step(actions=(with_rollout(live, facts),))
    return _patches(seen, given, now) or _seen(seen, live, there, given, now)


def _shared(seen: Observation) -> Sequence[_Shared]:
    found = []
    for target in standby_targets(seen):
        route = route_in_bake(seen, target)
        routing = seen.routings.get(target.target.target_ref.name)
        if route is not None and routing is not None:
            found.append(_Shared(target, route, routing, wanted_share(seen, target)))
    return found


def _unrecorded(seen: Observation, live: ModelGeneration, there: Sequence[_Shared]) -> Step | None:
    """Record a share that the spec no longer has, and that an operator wrote before it ended."""
    before = live.status.rollout.holdback
    if before is None or before == holdback(seen):
        return None
    given = (e for e in there if is_given(e.route) and e.route.weight != before)
    weight: dict[str, object] = {"weight": before}
    shown = {e.name: weight for e in given if is_shown(e.route, e.routing, before)}
    if not shown:
        return None
    return Step(actions=(with_rollout(live, {"targets": _with_routes(live, shown)}),))


def _intended(
    seen: Observation, live: ModelGeneration, given: Sequence[_Shared]
) -> dict[str, object]:
    """What is written before routes get a share: which ones may lead to pods of previous, and it.

    The weights of a route that gets its first one are the owner's now.
    """
    changes: dict[str, dict[str, object]] = {}
    for each in given:
        if not is_given(each.route):
            route = new_route(seen, each.target)
            weights = route.weights if route else each.route.weights
            changes[each.name] = {"weights": weights, "withdrawn_at": None}
    share, written = holdback(seen), any(each.patch for each in given)
    if not changes and (not written or share == live.status.rollout.holdback):
        return {}
    return {"targets": _with_routes(live, changes), "holdback": share}


def _patches(seen: Observation, given: Sequence[_Shared], now: datetime) -> Step | None:
    actions = tuple(patch for each in given if (patch := each.patch))
    refused = {r.subject for r in seen.refusals if r.is_pending(now)}
    open_now = tuple(each for each in actions if subject(each) not in refused)
    return Step(actions=open_now or actions) if actions else None


def _seen(
    seen: Observation,
    live: ModelGeneration,
    there: Sequence[_Shared],
    given: Sequence[_Shared],
    now: datetime,
) -> Step | None:
    """Record which routes were seen with their share, and since when all have it.

    Args:
        seen: the update.
        live: the generation that bakes.
        there: all targets with pods of previous.
        given: those whose routes have what they should have.
        now: the moment.
    """
    new: dict[str, dict[str, object]] = {
        e.name: {"weight": e.share} for e in given if e.route.weight != e.share
    }
    since, running = live.status.rollout.holdback_seen_at, [e for e in there if e.target.desired]
    whole = bool(running) and all(e in given and e.share == holdback(seen) for e in running)
    kept = whole and since is not None and not new and not is_ahead(since, now)
    kept |= any(is_unknown(seen, each.name) for each in there)  # as after a restart
    facts: dict[str, object] = {}
    if not kept and since != (moment := now if whole else None):
        facts["holdback_seen_at"] = moment
    if new:
        facts["targets"] = _with_routes(live, new)
    if not facts:
        return None
    events = tuple(_event(seen, live, each) for each in given if each.name in new)
    return Step(actions=(with_rollout(live, facts),), events=events)


def _with_routes(
    live: ModelGeneration, changes: Mapping[str, dict[str, object]]
) -> list[RolloutTarget]:
    """The recorded targets of live with changes of their routes, by target."""
    return [
        each.model_copy(update={"route": each.route.model_copy(update=changes[each.name])})
        if each.route and each.name in changes
        else each
        for each in live.status.rollout.targets
    ]


def _event(seen: Observation, live: ModelGeneration, each: _Shared) -> Event:
    previous, name = standby(seen), live.metadata.name
    message = (
        f"HTTPRoute {each.route.name}: Deployment {canary_name(each.name)} with "
        f"{previous.metadata.name if previous else ''} has {each.share} % of the requests of "
        f"Deployment {each.name} while {name} bakes (rollout.bake.holdback)"
    )
    return Event("TrafficHeldBack", message, generation=name)
