"""The request `promote.g<number>`: a generation that bakes is proven now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_operator.lifecycle.bake.watch import end_bake
from springtide_operator.lifecycle.requests.request import Request, Response
from springtide_operator.lifecycle.rollout.rollout_status import with_rollout
from springtide_operator.lifecycle.state.generations import baking
from springtide_operator.lifecycle.state.plan import Event

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_operator.lifecycle.state.observation import Observation


def promote(seen: Observation, request: Request, now: datetime) -> Response:
    """End the bake of the live generation; repeated after a crash it gives the same answer."""
    live = seen.lineage.live
    if live is None:
        return Response(False, "nothing is live, so nothing bakes")
    name, rollout = live.metadata.name, live.status.rollout
    if live.spec.number != request.number:
        if baking(live) is None:
            return Response(False, f"nothing bakes; {name} is live")
        return Response(False, f"name the live generation: promote.g{live.spec.number}@<token>")
    message = f"the bake of {name} has ended"
    if rollout.baked_at:
        return Response(True, message)
    if baking(live) is None:
        return Response(False, f"{name} does not bake")
    event = Event("BakeEnded", f"{name}: the bake was ended by {request}", generation=name)
    actions = (with_rollout(live, end_bake(now)),)
    return Response(True, message, actions, events=(event,))
