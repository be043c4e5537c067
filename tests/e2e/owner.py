"""The owner of a served Deployment: its manifest, the owner's tools, and their effects."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import yaml
from demo.example import UPDATE
from e2e.small_example import SmallExample

Raw = dict[str, Any]
TARGET = f"deployment/{UPDATE}"
BACK = 90.0
"""Seconds in which removed fields are reapplied: an unlabelled target is seen within 30 s."""


def manifest(example: SmallExample, change: Callable[[Raw], None] | None = None) -> Raw:
    """Return the Deployment as its owner keeps it, changed in place by `change`."""
    made = example.objects()["Deployment"]
    if change:
        change(made["spec"])
    return made


def environment(spec: Raw) -> list[Raw]:
    """Return the variables of the one container of a Deployment's spec, to be changed in place."""
    (container,) = spec["template"]["spec"]["containers"]
    entries: list[Raw] = container["env"]
    return entries


def variables(example: SmallExample) -> dict[str, str]:
    """Return what the Deployment says now."""
    return {one["name"]: one.get("value", "") for one in environment(example.get(TARGET)["spec"])}


def served_variables(example: SmallExample, number: int) -> dict[str, str]:
    """Return the variables with which a generation is served."""
    artifact = example.generations()[number]["status"]["artifact"]
    return {"MODEL_URI": artifact["uri"], "MODEL_DIGEST": artifact["servedDigest"]}


def wait_until_served(example: SmallExample, number: int, *, seconds: float = BACK) -> None:
    """Wait until the Deployment serves a generation and all its pods are ready."""
    wanted = served_variables(example, number).items()
    until(lambda: wanted <= variables(example).items(), f"generation {number} in its env", seconds)
    example.show("rollout", "status", TARGET, "--timeout=240s")


def until(answer: Callable[[], Any], what: str, seconds: float = BACK) -> Any:
    """Call until the result is true; return it."""
    ends = time.monotonic() + seconds
    while not (found := answer()):
        assert time.monotonic() < ends, f"{what} did not come within {seconds:g} s"
        time.sleep(0.5)
    return found


def condition(status: Raw, kind: str) -> Raw:
    """Return a condition of a status by its type; {} where it is not there."""
    return next((one for one in status.get("conditions", []) if one["type"] == kind), {})


def out_of_sync(reason: str) -> Callable[[Raw], bool]:
    """Return whether the targets are out of sync, for this reason."""
    return lambda status: condition(status, "TargetsInSync").get("reason") == reason


def in_sync(status: Raw) -> bool:
    """Return whether the targets are in sync."""
    return condition(status, "TargetsInSync").get("status") == "True"


def stalled(reason: str) -> Callable[[Raw], bool]:
    """Return whether the update is stalled, for this reason."""
    return lambda status: condition(status, "Stalled").get("reason") == reason


def event_count(example: SmallExample, reason: str) -> int:
    """Return how often an Event was reported."""
    return sum(one.get("count") or 1 for one in example.events() if one["reason"] == reason)


def uid(example: SmallExample) -> str:
    """Return the uid of the update."""
    return str(example.get(f"iu/{UPDATE}")["metadata"]["uid"])


def delete_updates(example: SmallExample, *options: str) -> None:
    """Delete every update of the namespace, and return when they are gone."""
    example.show("delete", "iu", "--all", "--timeout=180s", *options)
    assert not example.get("iu").get("items")


def apply_again(example: SmallExample, old: str) -> Raw:
    """Apply the update as Git has it; return its status once every generation is its own."""
    example.kubectl.apply([example.objects()["IncrementalUpdate"]])
    return adopted(example, old)


def adopted(example: SmallExample, old: str) -> Raw:
    """Return the status of the update once every generation is its own."""
    new = uid(example)
    assert new != old

    def taken_over() -> bool:
        labels = [one["metadata"]["labels"] for one in example.generations().values()]
        return {each["springtide.dev/update-uid"] for each in labels} == {new}

    until(taken_over, "the generations under the new uid")
    return example.wait(lambda now: now.get("live"), what="live")


@contextmanager
def applied_again_and_again(
    example: SmallExample, body: Raw, *, every: float
) -> Iterator[Callable[[], int]]:
    """Apply a manifest as Argo CD does: server-side, by force; yields what counts the applies."""
    over, applies = threading.Event(), []
    command = ("apply", "--server-side", "--force-conflicts", "--field-manager=argocd-controller")

    def go_on() -> None:
        while not over.is_set():
            text = yaml.safe_dump(body).encode()
            applies.append(example.kubectl(*command, "--filename=-", stdin=text))
            over.wait(every)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield lambda: len(applies)
    finally:
        over.set()
        thread.join()
