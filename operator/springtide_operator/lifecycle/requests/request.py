"""A request `<verb>[.g<number>]@<token>` as it was sent, and the response to it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from springtide_operator.lifecycle.evaluation.approval import awaits_approval
from springtide_operator.lifecycle.evaluation.holds import is_inconclusive
from springtide_operator.lifecycle.state.generations import rolling, unknown_value

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.plan import Action, Event

NAMED = re.compile(r"(?P<verb>[a-z]+)\.g(?P<number>0|[1-9][0-9]{0,8})")


@dataclass(frozen=True)
class Request:
    """A request of a user."""

    word: str
    """What is before the `@`, as it was sent: `run`, or `rollback.g6`."""
    token: str

    @classmethod
    def parse(cls, text: str) -> Request:
        """Split the value of the annotation."""
        word, _, token = text.partition("@")
        return cls(word[:128], token[:128])

    @property
    def verb(self) -> str:
        """The verb without the generation."""
        named = NAMED.fullmatch(self.word)
        return named["verb"] if named else self.word

    @property
    def number(self) -> int | None:
        """The number of the generation that it names, if it names one."""
        named = NAMED.fullmatch(self.word)
        return int(named["number"]) if named else None

    def __str__(self) -> str:
        return f"{self.word}@{self.token}"


@dataclass(frozen=True)
class Response:
    """The result of a request."""

    accepted: bool
    message: str
    actions: tuple[Action, ...] = ()
    facts: Mapping[str, Any] | None = None
    events: tuple[Event, ...] = ()


def busy(seen: Observation) -> str:
    """Why no other run can start now."""
    if unknown := seen.lineage.unknown:
        return f"{unknown.metadata.name} has {unknown_value(unknown)}, a value of another version"
    under_way = seen.lineage.candidate
    if under_way is None or is_inconclusive(under_way):
        return ""
    name = under_way.metadata.name
    if rolling(under_way):
        back = under_way.status.rollout.rollback_reason
        return f"{name} is {'being rolled back' if back else 'rolling out'}; wait for its end"
    if under_way.spec.origin == "Imported":
        return f"{name} is the initial model and in progress; wait for its end"
    if awaits_approval(seen, under_way):
        return f"{name} waits for approval; set its spec.approval, or use reject"
    return f"{name} is in progress; wait for its end or use reject"


def acknowledge(seen: Observation, *holds: str) -> dict[str, Any]:
    """The fact that a user has ended holds."""
    known = seen.update.status.acknowledged_holds
    return {"acknowledged_holds": [*known, *holds][-16:]} if holds else {}
