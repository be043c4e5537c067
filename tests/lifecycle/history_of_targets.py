"""Rules on the Deployments of an update."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from lifecycle.history import History
from lifecycle.world import digest

from springtide_operator.lifecycle.state.observed import ObservedTarget


class TargetHistory(History):
    """What controllers and other clients do to a target."""

    @rule(data=st.data())
    def a_deployment_is_deleted_or_made_again(self, data: st.DataObject) -> None:
        name = self.a_target(data)
        target = self.world.targets[name]
        if target.uid:
            self.world.targets[name] = ObservedTarget(target=target.target)
        else:
            self.world.create_target(name)

    @rule(ready=st.booleans())
    def pods_get_ready_or_not(self, ready: bool) -> None:
        self.world.pods_ready = ready
        self.world.finish_rollouts()

    @rule(
        data=st.data(),
        kind=st.sampled_from(["wiped", "paused", "scaled", "theirs", "taken", "unpulled"]),
    )
    def another_client_changes_a_deployment(self, data: st.DataObject, kind: str) -> None:
        name = self.a_target(data)
        target = self.world.targets[name]
        changes: dict[str, dict[str, object]] = {
            "wiped": {"digest": None, "number": None, "uri": None},
            "paused": {"paused": not target.paused},
            "scaled": {"desired": 0 if target.desired else 2},
            "theirs": {"digest": digest("theirs")},
            "unpulled": {"trouble": "" if target.trouble else "image pull failed: not found"},
            "taken": {"foreign_manager": "" if target.foreign_manager else "helm"},
        }
        if target.uid:
            self.world.targets[name] = replace(target, **changes[kind])
        self.settle()

    @precondition(lambda self: self.world.served)
    @rule(data=st.data(), minutes=st.sampled_from([1, 6, 11]))
    def a_serving_pod_crashes(self, data: st.DataObject, minutes: int) -> None:
        name = self.a_target(data)
        if self.world.targets[name].uid:
            self.world.crash_a_pod(name)
        self.settle()
        self.world.now += timedelta(minutes=minutes)
        self.settle()
