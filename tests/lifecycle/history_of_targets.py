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

    @rule(
        data=st.data(),
        to=st.sampled_from(["another", "another", "the first"]),
        ready=st.booleans(),
        minutes=st.sampled_from([0, 1, 11]),
    )
    def the_owner_changes_the_pod_template(
        self, data: st.DataObject, to: str, ready: bool, minutes: int
    ) -> None:
        """Or undoes that; its pods get ready, or not."""
        name = self.a_target(data)
        self.world.pods_ready = ready
        self.world.change_template(name, digest(f"{to} template of {name}"))
        self.settle()
        self.world.now += timedelta(minutes=minutes)
        self.world.finish_rollouts()
        self.settle()

    @rule(data=st.data(), how=st.sampled_from(["renamed", "renamed", "back", "back", "followed"]))
    def the_container_is_renamed_or_comes_back(self, data: st.DataObject, how: str) -> None:
        """In the Deployment; or the spec follows."""
        name, rollout = self.a_target(data), self.world.spec["rollout"]
        if how == "followed":
            there = self.world.containers.get(name, "server")
            targets = [
                each | {"container": there} if each["targetRef"]["name"] == name else each
                for each in rollout["targets"]
            ]
            self.world.edit(rollout=rollout | {"targets": targets})
        else:
            to = "server" if how == "back" else "model"
            template = "the first template" if how == "back" else "the template with model"
            self.world.rename_container(name, to, digest(f"{template} of {name}"))
        self.settle()

    @rule(data=st.data(), serves=st.booleans())
    def another_update_claims_a_target(self, data: st.DataObject, serves: bool) -> None:
        name = self.a_target(data)
        if self.world.targets[name].uid:
            self.world.claim_by_another(name, serves=serves)
        self.settle()

    @precondition(lambda self: "other" in self.claims())
    @rule(fields=st.sampled_from([True, True, False]))
    def the_claim_of_another_update_is_freed(self, fields: bool) -> None:
        for name in self.world.targets:
            self.world.free_claim(name, fields=fields)
        self.settle()

    def claims(self) -> set[str]:
        return {target.claimed_by for target in self.world.targets.values()}

    @precondition(lambda self: self.world.served)
    @rule(data=st.data(), minutes=st.sampled_from([1, 6, 11]))
    def a_serving_pod_crashes(self, data: st.DataObject, minutes: int) -> None:
        name = self.a_target(data)
        if self.world.targets[name].uid:
            self.world.crash_a_pod(name)
        self.settle()
        self.world.now += timedelta(minutes=minutes)
        self.settle()
