"""Live traffic of the test world: what Prometheus has, and serving pods that crash."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from springtide_operator.lifecycle.state.observed import NO_SERIES, ObservedSample

if TYPE_CHECKING:
    from springtide_operator.lifecycle.state.plan import Plan, Query

REFUSED = "refused"
"""Value of a metric whose query Prometheus refuses."""


@dataclass(frozen=True)
class Answered:
    """Requests that one side has answered."""

    at: datetime
    side: str
    bad: int
    total: int


class Traffic:
    """Answers the queries of plans, at once; the samples stay, as in the operator's memory."""

    def measure(self, plan: Plan) -> bool:
        """Answer the queries of a plan; return whether there were any."""
        if plan.queries and self.prometheus_answers:
            self.samples = tuple(map(self._answer, plan.queries))
            self.queried += [query.expression for query in plan.queries]
            return True
        return False

    def _answer(self, query: Query) -> ObservedSample:
        value = self._counted(query) if query.part else self.measured.get(query.metric)
        asked = (query.generation, query.metric, query.expression, query.at or self.now)
        if value == REFUSED:
            problem = "Prometheus: parse error"
            return ObservedSample(*asked, problem=problem, invalid=True, part=query.part)
        if value is None:
            return ObservedSample(*asked, problem=NO_SERIES, part=query.part)
        return ObservedSample(*asked, value=value, part=query.part)

    def _counted(self, query: Query) -> float | str | None:
        """What the counters of one side have counted in the time that a query asks about."""
        if query.metric in self.measured:
            return self.measured[query.metric]
        side, _, number = query.part.partition(": ")
        seconds = int(re.search(r"\[(\d+)s\]", query.expression)[1])
        since = query.at - timedelta(seconds=seconds)
        found = [a for a in self.answered if a.side == side and since < a.at <= query.at]
        if side in self.per_minute:
            bad, total = self.per_minute[side]
            found.append(Answered(query.at, side, bad * (seconds // 60), total * (seconds // 60)))
        return sum(getattr(each, number) for each in found) if found else None

    def answer_requests(self, side: str, bad: int, total: int) -> None:
        """Let one side, canary or live, answer requests now."""
        self.answered.append(Answered(self.now, side, bad, total))

    def restart_operator(self) -> None:
        """What the operator has in memory is lost."""
        self.samples = ()

    def crash_a_pod(self, name: str = "ranker") -> None:
        """Let a serving pod crash; it recovers with `recover_pods`, or under another model."""
        said = "container server ended with code 1: out of memory"
        target = self.targets[name]
        self.pods_ready = False
        self.targets[name] = replace(target, available=1, ready=1, failing=1, trouble=said)

    def recover_pods(self) -> None:
        self.pods_ready = True
        self.finish_rollouts()
