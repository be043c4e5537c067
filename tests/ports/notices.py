"""Notifications of a test, and an outbox that records what it drops."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from springtide_operator.lifecycle.state.plan import Notification
from springtide_operator.ports.outbox import Outbox

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SHOP = ("search", "shop")


def notification(number: int = 1, **changes: object) -> Notification:
    known: dict[str, object] = {
        "uid": f"uid-{number}",
        "fact": "verdict/2026-03-01T12:00:00Z",
        "kind": "verdict",
        "namespace": "search",
        "update": "shop",
        "at": NOON,
        "generation": f"shop-g{number}",
        "verdict": "Accepted",
        "reason": "RulesPassed",
        "message": "all 2 rules passed",
        "live": "shop-g0",
    }
    return Notification(**(known | changes))  # type: ignore[arg-type]


def outbox(**changes: object) -> tuple[Outbox, list[str]]:
    dropped: list[str] = []
    repeat = changes.pop("repeat", timedelta(hours=1))
    made = Outbox(repeat, dropped.append, **changes)  # type: ignore[arg-type]
    return made, dropped
