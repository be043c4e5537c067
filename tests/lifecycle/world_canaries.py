"""Canaries of the test world: their Deployments, and what users and pods do to them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from springtide_api.update.rollout import TargetRef
from springtide_operator.lifecycle.state.observed import ObservedCanary, ObservedTarget

if TYPE_CHECKING:
    from springtide_operator.lifecycle.state.plan import ApplyCanary


class Canaries:
    """Applies canaries as the API server and the deployment controller do."""

    @property
    def canary(self) -> ObservedTarget:
        """The canary of ranker."""
        return self.canaries["ranker-canary"].deployment

    def _apply_canary(self, action: ApplyCanary) -> bool:
        """Create or change a canary; False where the API server refuses that."""
        target, there = self.targets[action.target.target_ref.name], self.canaries.get(action.name)
        observed = (action.target_uid, action.template)
        if not target.uid or observed != (target.uid, target.template or ""):
            return False
        assert self.as_declared(target, action.target).has_container, "seen with its template"
        if (there.deployment.uid if there else "") != action.uid:
            self._observe_own_write("canaries", action.name)
            return False
        assert there is None or there.ours, "what is not ours is never applied to"
        before = there.deployment if there else self._new_canary(action)
        same = (before.digest, before.number) == (action.serving.digest, action.serving.number)
        if not same or (there and there.made_from != action.template):
            changes = {"digest": action.serving.digest, "number": action.serving.number}
            changes |= {"uri": action.serving.uri, "template": target.template}
            before = replace(before, **changes, updated=0, available=0, old=before.available)
        kept = min(before.available, action.replicas)
        after = replace(before, desired=action.replicas, available=kept, updated=kept)
        name = action.target.target_ref.name
        made = there.created if there else self.now
        way = {"route": action.route, "service": action.service}
        self.canaries[action.name] = ObservedCanary(
            name, after, ours=True, made_from=action.template, created=made, **way
        )
        self._observe_own_write("canaries", action.name)
        return True

    def _new_canary(self, action: ApplyCanary) -> ObservedTarget:
        update = {"target_ref": TargetRef(name=action.name)}
        target = action.target.model_copy(update=update)
        created = {"uid": self._uid(), "settled": True, "version": "1", "claimed_by": "shop"}
        return ObservedTarget(target, has_container=True, **created)

    def finish_canaries(self) -> None:
        """Let the pods of canaries get available, if they do at all."""
        for name, canary in self.canaries.items():
            if self.canary_pods_ready and canary.ours:
                desired = canary.deployment.desired
                done = {"updated": desired, "available": desired, "old": 0, "failing": 0}
                well = replace(canary.deployment, **done, trouble="", stalled="", ready=None)
                self.canaries[name] = replace(canary, deployment=well)

    def crash_canaries(self, trouble: str = "container server ended with code 1: killed") -> None:
        """Let a pod of every canary crash."""
        self.canary_pods_ready = False
        for name, canary in self.canaries.items():
            changes = {"available": 0, "ready": 0, "failing": 1, "trouble": trouble}
            crashed = replace(canary.deployment, **changes)
            self.canaries[name] = replace(canary, deployment=crashed)

    def change_canary(self, name: str, **changes: object) -> None:
        """Let another client change the Deployment of a canary."""
        there = self.canaries[name]
        deployment = replace(there.deployment, **changes)
        self.canaries[name] = replace(there, deployment=deployment)

    def edit_canary(self, name: str, by: str = "kubectl-edit") -> None:
        """Let a user change the pod template of a canary."""
        self.canaries[name] = replace(self.canaries[name], edited_by=by)

    def take_canary_name(self, target: str = "ranker") -> None:
        """Let a Deployment of a user have the name of a target's canary."""
        found = replace(self.targets[target], uid=self._uid(), claimed_by="", digest=None)
        named = found.target.model_copy(update={"target_ref": TargetRef(name=f"{target}-canary")})
        foreign = ObservedCanary(target, replace(found, target=named), ours=False)
        self.canaries[f"{target}-canary"] = foreign
