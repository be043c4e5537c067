"""The pods of a canary on a real cluster: when they serve, and which Deployment controls them."""

from collections import Counter
from datetime import datetime

from demo.example import UPDATE
from e2e import owner
from e2e.small_example import Raw, SmallExample

CANARY = f"{UPDATE}-canary"


def at_step(example: SmallExample, number: int, step: int) -> None:
    """Wait until the pods of a step of a generation's canary are available."""

    def reached() -> bool:
        generation = example.generations().get(number, {})
        rollout = generation.get("status", {}).get("rollout", {})
        return rollout.get("step") == step and bool(rollout.get("weightSeenAt"))

    owner.until(reached, f"step {step} of generation {number}", seconds=180)


def controllers(example: SmallExample) -> Counter[tuple[str, str]]:
    """Count the pods of the Service by their role and the Deployment that controls them."""
    pods = example.get("pods", f"--selector=app={UPDATE}")["items"]
    sets = {one["metadata"]["name"]: one for one in example.get("replicasets")["items"]}
    return Counter(
        (pod["metadata"]["labels"]["springtide.dev/role"], _controller(sets[_controller(pod)]))
        for pod in pods
        if "deletionTimestamp" not in pod["metadata"]
    )


def first_ready(example: SmallExample) -> float:
    """Return when the first canary pod was ready."""
    pods = example.get("pods", "--selector=springtide.dev/role=canary")["items"]
    moments = [owner.condition(pod["status"], "Ready")["lastTransitionTime"] for pod in pods]
    return min(datetime.fromisoformat(moment).timestamp() for moment in moments)


def _controller(one: Raw) -> str:
    owners = one["metadata"]["ownerReferences"]
    return next(str(each["name"]) for each in owners if each.get("controller"))
