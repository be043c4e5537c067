"""Live traffic of the test world: what Prometheus has, and serving pods that crash."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from springtide_operator.lifecycle.state.observed import ObservedSample

if TYPE_CHECKING:
    from springtide_operator.lifecycle.state.plan import Plan, Query

REFUSED = "refused"
"""Value of a metric whose query Prometheus refuses."""


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
        value = self.measured.get(query.metric)
        asked = (query.generation, query.metric, query.expression, self.now)
        if value == REFUSED:
            return ObservedSample(*asked, problem="Prometheus: parse error", invalid=True)
        if value is None:
            return ObservedSample(*asked, problem="no series")
        return ObservedSample(*asked, value=value)

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
