"""A namespace with an update so small that a whole run takes a minute, for fault tests.

Server, claims and update are those of `examples/`, made smaller. Model and months are written
straight into the folders behind the claims, so nothing but the operator's own pods and two servers
runs in the cluster. `SmallExample.begin` makes it, `wait` looks until something is so.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from demo.cluster import EXAMPLES
from demo.example import CLAIMS, LABEL, UPDATE, Example
from demo.waiting import line, stalled
from e2e import small_model
from local_cluster.node import Node

Raw = dict[str, Any]
MONTHS = ("2026-01", "2026-02")
"""The first trains generation 1, the second judges it."""
PATIENCE = 180.0
PAUSE = 0.7


@dataclass(frozen=True, kw_only=True)
class SmallExample(Example):
    """An update, its server and its data in a namespace of their own."""

    node: Node

    def begin(
        self,
        *,
        head: bool = True,
        months: tuple[str, ...] = MONTHS,
        change: Callable[[Raw], None] | None = None,
        server: Callable[[Raw], None] | None = None,
        before: Callable[[], None] | None = None,
        shared: bool = False,
    ) -> None:
        """Create everything, in place of what an earlier test left.

        Args:
            head: the initial model has a trained head, so it is served as generation 0.
            months: delivered at the start.
            change: changes the update's spec in place.
            server: changes the spec of the Deployment in place.
            before: called when everything but server and update exists.
            shared: pods of several nodes may mount the claims, which a canary needs.
        """
        self.clear()
        objects = self.objects()
        self._open_storage(shared=shared)
        self._publish(head=head)
        for month in months:
            self.deliver(f"{month}.csv.gz", small_model.month(month))
        if server:
            server(objects["Deployment"]["spec"])
        if before:
            before()
        if change:
            change(objects["IncrementalUpdate"]["spec"])
        self.kubectl.apply(list(objects.values()))

    def objects(self) -> dict[str, Raw]:
        """Return Deployment, Service and IncrementalUpdate by kind, as `begin` applies them."""
        made = {one["kind"]: one for one in self._examples_of("30-recommender", "40-update")}
        _smaller_server(made["Deployment"]["spec"]["template"]["spec"], self.cluster.trainer_image)
        _smaller_update(made["IncrementalUpdate"]["spec"])
        return made

    def deliver(self, file: str, content: bytes) -> None:
        """Write a month's file under another name and rename it."""
        arriving = self.folder("data") / ".arriving"
        arriving.write_bytes(content)
        arriving.rename(arriving.with_name(file))

    def folder(self, claim: str) -> Path:
        """Return the folder of this machine behind a claim."""
        return self.node.storage_dir / self.namespace / claim

    def files(self, uri: str) -> Path:
        """Return the folder of this machine behind a location on the claim of the models."""
        return self.folder("models") / uri.removeprefix("file:///models/")

    def edit(self, spec: Raw) -> None:
        """Merge into the spec of the update, as `kubectl patch` does."""
        self.patch(f"iu/{UPDATE}", {"spec": spec})

    def patch(self, what: str, change: Raw) -> None:
        """Merge a change into an object of the namespace."""
        body = yaml.safe_dump(change)
        self.show("patch", what, "--type=merge", f"--patch={body}")

    def get(self, *what: str) -> Raw:
        """Return an object or a list of the namespace; {} where there is none."""
        return self.kubectl.get(*what, f"--namespace={self.namespace}")

    def pods(self, stage: str) -> list[Raw]:
        """Return the pods of one stage, the oldest first."""
        return self._of_stage("pods", stage)

    def jobs(self, stage: str = "", *, kind: str = "Job") -> list[Raw]:
        """Return the Jobs or the JobSets of one stage, or of all, the oldest first."""
        return self._of_stage(kind, stage)

    def checkpoints(self, number: int) -> list[int]:
        """Return the steps whose state is kept for a generation."""
        home = self.folder("models") / self.namespace / UPDATE
        kept = (home / "checkpoints" / f"g{number}").glob("step-*")
        return sorted(int(each.name.removeprefix("step-")) for each in kept)

    def column(self, name: str) -> str:
        """Return what one column of `kubectl get iu` says."""
        header, row = self.show("get", f"iu/{UPDATE}").splitlines()
        names = header.split()
        begin = header.index(f"{name} ") if f"{name} " in header else header.index(name)
        follow = names[names.index(name) + 1 :]
        return row[begin : header.index(follow[0]) if follow else None].strip()

    def wait(self, until: Callable[[Raw], Any], *, what: str, seconds: float = PATIENCE) -> Raw:
        """Wait until `until` is true of the status of the update; return that status.

        Raises:
            AssertionError: it did not come; the message shows the status instead.
        """
        begun = time.monotonic()
        while True:
            status = self.update()
            if until(status):
                return status
            if time.monotonic() > begun + seconds:
                raise AssertionError(
                    f"{self.namespace}: {what} did not come within {seconds:g} s; "
                    f"{line(status)}; {stalled(status)}\n{self._shown()}"
                )
            time.sleep(PAUSE)

    def goes_live(self, number: int, *, seconds: float = PATIENCE) -> Raw:
        """Wait until a generation is live, and fail as soon as it is rejected or failed."""

        def reached(now: Raw) -> bool:
            last = now.get("lastRun", {})
            mine = last.get("generation") == f"{UPDATE}-g{number}"
            assert not (mine and last.get("verdict") in {"Rejected", "Failed"}), last
            return now.get("live", {}).get("number") == number

        return self.wait(reached, what=f"generation {number}", seconds=seconds)

    def end(self) -> None:
        """Delete the namespace without waiting."""
        self.kubectl("delete", "namespace", self.namespace, "--wait=false", "--ignore-not-found")

    def _open_storage(self, *, shared: bool) -> None:
        """Create the namespace with the claims."""
        volumes = [self._volume(claim, self.node.storage_dir) for claim in CLAIMS]
        claims = self._examples_of("10-namespace", "20-claims")
        for each in [*volumes, *claims] if shared else ():
            if "accessModes" in each.get("spec", {}):
                each["spec"]["accessModes"] = ["ReadWriteMany"]
        self.kubectl.apply([*volumes, *claims])

    def _publish(self, *, head: bool) -> None:
        """Write the initial model."""
        small_model.publish(self.folder("models") / "tiny", head=head)

    def _of_stage(self, kind: str, stage: str) -> list[Raw]:
        wanted = f"springtide.dev/stage={stage}" if stage else "springtide.dev/stage"
        items: list[Raw] = self.get(kind, f"--selector={wanted}").get("items", [])
        return sorted(items, key=lambda one: str(one["metadata"]["creationTimestamp"]))

    def _examples_of(self, *names: str) -> list[Raw]:
        text = "\n---\n".join((EXAMPLES / f"{name}.yaml").read_text() for name in names)
        objects = list(yaml.safe_load_all(text))
        for one in objects:
            metadata = one["metadata"]
            if one["kind"] == "Namespace":
                metadata["name"] = self.namespace
                metadata["labels"] |= LABEL
            else:
                metadata["namespace"] = self.namespace
        return objects

    def _shown(self) -> str:
        return self.show("get", "iu,mg,jobs,pods", "--output=wide")


def _smaller_server(pod: Raw, image: str) -> None:
    (container,) = pod["containers"]
    container["image"] = image
    pod["terminationGracePeriodSeconds"] = 15
    container["resources"]["requests"] = {"cpu": "100m", "memory": "256Mi"}
    container["readinessProbe"]["periodSeconds"] = 1
    drain = next(one for one in container["env"] if one["name"] == "DRAIN_SECONDS")
    drain["value"] = "3"


def _smaller_update(spec: Raw) -> None:
    spec["model"]["initial"]["uri"] = "file:///models/tiny"
    spec["model"]["maxLength"] = small_model.TOKENS
    spec["training"] = {
        "hyperparameters": {"epochs": 6, "learningRate": "3e-3", "batchSize": 16},
        "checkpoint": {"everySteps": 25},
        "compute": {"resources": {"cpu": "800m", "memory": "1536Mi"}},
    }
    del spec["data"]["reserve"], spec["evaluation"]
    useful, as_good, *_ = spec["gate"]["rules"]
    as_good["maxRegression"] = {"absolute": "0.05"}
    spec["gate"]["rules"] = [useful, as_good]
    spec["rollout"]["deadline"] = "3m"
