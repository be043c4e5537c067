"""Rules on what the owners of Deployments change: templates, containers, who serves there."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from lifecycle.generation_facts import bakes, live_of
from lifecycle.history import History
from lifecycle.world import digest


class OwnerHistory(History):
    """What owners do to targets while anything happens to the update."""

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

    @rule(
        data=st.data(),
        how=st.sampled_from(["renamed", "renamed", "back", "back", "followed"]),
        edits=st.booleans(),
    )
    def the_container_is_renamed_or_comes_back(
        self, data: st.DataObject, how: str, edits: bool
    ) -> None:
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
            self.world.rename_container(name, to, digest(f"{template} of {name}"), edits=edits)
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

    @rule(
        data=st.data(),
        during=st.sampled_from(["rollout", "rollback", "bake"]),
        how=st.sampled_from(["template", "container", "claim"]),
        minutes=st.sampled_from([0, 1, 11]),
    )
    def an_owner_acts_in_the_middle(
        self, data: st.DataObject, during: str, how: str, minutes: int
    ) -> None:
        live = live_of(list(self.world.generations.values()))
        if during != "bake":
            self.a_rollout_begins()
        elif not bakes(live):
            return
        if during == "rollback":
            newest = max((g.spec.number for g in self.world.generations.values()), default=0)
            self.request(f"rollback.g{newest}")
        self.settle()
        if how == "template":
            self.the_owner_changes_the_pod_template(data, "another", False, minutes)
        elif how == "container":
            self.the_container_is_renamed_or_comes_back(data, "renamed", minutes == 1)
        else:
            self.another_update_claims_a_target(data, minutes == 1)
        self.world.now += timedelta(minutes=minutes)
        self.settle()

    @precondition(lambda self: "other" in self.claims() or self.world.containers)
    @rule()
    def owners_undo_what_they_did(self) -> None:
        self.owners_put_all_in_order()
        self.settle()

    def claims(self) -> set[str]:
        return {target.claimed_by for target in self.world.targets.values()}

    def owners_put_all_in_order(self) -> None:
        """Each target is as the spec names it, and free for it."""
        for each in self.world.spec["rollout"]["targets"]:
            name, container = each["targetRef"]["name"], each["container"]
            self.world.free_claim(name, fields=True)
            self.world.rename_container(name, container, digest(f"the first template of {name}"))
            target = self.world.targets[name]
            if target.digest == digest("of another update") or target.foreign_manager:
                gone = {"digest": None, "number": None, "uri": None}
                self.world.targets[name] = replace(target, foreign_manager="", **gone)
