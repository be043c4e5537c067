"""Holds: what stands until a person decides, and what he may ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_operator.lifecycle.evaluation import held
from springtide_operator.lifecycle.plan import Waiting

if TYPE_CHECKING:
    from springtide_operator.lifecycle.observation import Observation

QUARANTINE_FULL = "QuarantineFull"
"""Reason of a probe that found more partitions to quarantine than a status holds."""


def hold(seen: Observation) -> Waiting | None:
    """Why no run goes on before a person decides.

    A held candidate, two rejections in a row, or more partitions missing than can be quarantined.
    """
    waiting, probe = seen.lineage.candidate, seen.update.status.last_probe
    if waiting is not None and held(seen, waiting):
        status = waiting.status
        message = f"{waiting.metadata.name}: {status.message}{_offer(seen)}"[:1024]
        short = f"held: {status.reason}"
        return Waiting(status.reason, message, "Evaluate", short=short, held=True)
    if waiting is None and (shared := seen.lineage.shared_rejection):
        message = (
            f"{shared[0].metadata.name} is the second rejection in a row that was trained on "
            f"{shared[1]}; no third is tried{_offer(seen)}"
        )
        return Waiting("RejectedTwice", message, short="held: RejectedTwice", held=True)
    if probe is not None and probe.reason == QUARANTINE_FULL:
        return Waiting(probe.reason, probe.message, short=probe.reason, held=True)
    return None


def _offer(seen: Observation) -> str:
    named = seen.lineage.proposed_for_quarantine
    if not named:
        return ""
    return (
        f"; annotate springtide.dev/request=quarantine@<token> to leave {', '.join(named)} out, "
        "or retry@<token>, or reject@<token>"
    )
