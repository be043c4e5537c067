"""Why nothing new starts and a running Job is suspended: spec.rollout.pin, or spec.suspend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_operator.lifecycle.state.plan import Waiting

if TYPE_CHECKING:
    from springtide_operator.lifecycle.state.observation import Observation


def suspension(seen: Observation, stage: str = "", *, purpose: str = "continue") -> Waiting | None:
    """Return what suspends an update, or None.

    Args:
        seen: the update.
        stage: the stage that waits.
        purpose: what the update does once spec.suspend is false.
    """
    if waiting := pin_waiting(seen, stage):
        return waiting
    if seen.update.spec.suspend:
        message = f"spec.suspend is true; set it to false to {purpose}"
        return Waiting("Suspended", message, stage)
    return None


def pin_waiting(seen: Observation, stage: str = "") -> Waiting | None:
    """Return that a generation is pinned, or None."""
    pinned, current = seen.lineage.pinned, seen.lineage.live
    if pinned is None or current is None:
        return None
    live = "the live generation" if pinned is current else f"live is {current.metadata.name}"
    message = (
        f"{pinned.metadata.name} is pinned ({live}); no run, probe or rollout starts before "
        f"{resumes_once(seen)}"
    )
    return Waiting("Pinned", message, stage, short=f"g{pinned.spec.number} is pinned")


def resumes_once(seen: Observation) -> str:
    """What must be true before a run or a probe may start; empty where neither field prevents it.

    A pin that is not possible prevents it, too.
    """
    causes = []
    if seen.update.spec.rollout.pin is not None:
        causes.append("spec.rollout.pin is removed")
    if seen.update.spec.suspend:
        causes.append("spec.suspend is false")
    return " and ".join(causes)
