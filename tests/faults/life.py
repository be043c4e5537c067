"""The lifecycle of an update as a list of steps, and the objects that it must end with.

Import, first generation by absolute rules, a second one against the first, a rejection, a suspect
holdout with its quarantine, a month that is not delivered, and a third promotion. Each generation
replays rows that its parent left; the second continues the adapter of the first, and those after
it are Full updates of its merged weights.
"""

import re
from dataclasses import dataclass, field
from typing import Any

from springtide_operator.cluster.api.kinds import DEPLOYMENT, EVENT, GENERATION, UPDATE

TIMES = frozenset(
    {
        "lastTransitionTime",
        "since",
        "startedAt",
        "finishedAt",
        "verdictAt",
        "stepStartedAt",
        "deadline",
        "promotedAt",
        "rolledBackAt",
        "rollbackStartedAt",
        "filesDeletedAt",
        "unfrozenAt",
        "reappliedAt",
        "endedAt",
        "runningSeconds",
        "quarantinedAt",
        "releasedAt",
    }
)
RANDOM = frozenset({"jobUid", "jobUID", "uid"})


@dataclass(frozen=True)
class Act:
    """What a person or the data does, and how to see that all its consequences have come."""

    request: str
    newest: tuple[int, str]
    """Number and verdict of the newest generation at the end."""
    months: tuple[str, ...] = ()
    undelivered: tuple[str, ...] = ()
    aucs: dict[str, tuple[float, float]] = field(default_factory=dict)
    phase: str = "Idle"
    live: int | None = None

    def over(self, scene) -> bool:
        status = scene.update_status
        newest = next(iter(status.get("history") or []), {})
        return (
            status.get("phase") == self.phase
            and (newest.get("number"), newest.get("verdict")) == self.newest
            and (status.get("live") or {}).get("number") == self.live
            and self.request in ("", _answered(status))
            and bool(scene.generation(0).get("artifact"))
            and not scene.jobs()
        )


def _answered(status) -> str:
    last = status.get("lastRequest") or {}
    return f"{last.get('verb')}@{last.get('token')}"


TRAINING = {
    "retention": {"replay": {}},
    "method": {"type": "LoRA", "lora": {"continuation": "Continue", "rebaseEvery": 2}},
}
"""What every update of these tests declares: each life is comparable with the undisturbed one."""
IDENTITY = {"secretName": "object-store", "serviceAccountName": "trainer"}
"""How the pods of all their Jobs reach the data."""

NO_BETTER = {"2025-04": (0.55, 0.66)}
SHUFFLED = {"2025-05": (0.5, 0.5)}

LIFE = (
    Act("", newest=(0, "Imported")),
    Act("run@1", newest=(1, "Accepted"), months=("2025-01", "2025-02"), live=1),
    Act("run@2", newest=(2, "Accepted"), months=("2025-03",), live=2),
    Act("run@3", newest=(3, "Rejected"), months=("2025-04",), aucs=NO_BETTER, live=2),
    Act(
        "run@4",
        newest=(4, "Inconclusive"),
        months=("2025-05",),
        aucs=SHUFFLED,
        phase="OnHold",
        live=2,
    ),
    Act(
        "quarantine@5",
        newest=(4, "Inconclusive"),
        months=("2025-07",),
        undelivered=("2025-06",),
        live=2,
    ),
    Act("run@6", newest=(4, "Accepted"), live=4),
)


async def play(scene, acts=LIFE, seconds=180.0):
    """Live through the acts, each to its end."""
    for act in acts:
        scene.world.months += act.months
        scene.world.undelivered += act.undelivered
        scene.world.aucs |= act.aucs
        if act.request:
            await scene.ask(act.request)
        await scene.until(act.over, seconds)


async def world_of(scene) -> dict[str, Any]:
    """What is there now, without times and uids: what a crash must not change."""
    client, namespace = scene.client, scene.namespace
    update = await client.get(UPDATE, namespace, "shop")
    deployment = await client.get(DEPLOYMENT, namespace, "ranker")
    generations = (await client.list_all(GENERATION, namespace)).items
    events = (await client.list_all(EVENT, namespace)).items
    uid = update["metadata"]["uid"]

    def plain(value):
        if isinstance(value, dict):
            kept = {k: v for k, v in value.items() if k not in TIMES | RANDOM}
            return {k: plain(v) for k, v in kept.items()}
        if isinstance(value, list):
            return [plain(each) for each in value]
        if isinstance(value, str):
            value = value.replace(namespace, "<namespace>").replace(uid, "<uid>")
            return re.sub(rf"\bshop-{uid[:5]}-", "shop-<uid>-", value)
        return value

    metadata = deployment["metadata"]
    return {
        "update": plain(update["status"]),
        "finalizers": update["metadata"].get("finalizers", []),
        "generations": {
            raw["metadata"]["name"]: plain({"spec": raw["spec"], "status": raw["status"]})
            for raw in generations
        },
        "template": plain(deployment["spec"]["template"]),
        "claim": plain([metadata["labels"], metadata["annotations"]]),
        "revisions": metadata["generation"],
        "templates": scene.templates,
        "jobs left": scene.jobs(),
        "jobs ever": sorted(plain(raw["metadata"]["name"]) for raw in scene.started.values()),
        "identities": sorted({identity(raw) for raw in scene.started.values()}),
        "events": sorted(
            (raw["involvedObject"]["name"], raw["reason"], plain(raw["message"]))
            for raw in events
            if raw.get("source", {}).get("component") == "springtide"
        ),
    }


def identity(job) -> tuple[str, ...]:
    """The Secrets and the service account of a Job's pod."""
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    secrets = [each["secretRef"]["name"] for each in container.get("envFrom", [])]
    return (*secrets, pod.get("serviceAccountName", ""))


def differences(wanted, found, path="") -> list[str]:
    """Name every place in which two worlds differ."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return [
            line
            for key in sorted({*wanted, *found}, key=str)
            for line in differences(wanted.get(key), found.get(key), f"{path}.{key}")
        ]
    if wanted == found:
        return []
    if isinstance(wanted, list) and isinstance(found, list):
        missing = [each for each in wanted if each not in found]
        more = [each for each in found if each not in wanted]
        return [f"{path}: lacks {missing}, has {more} (of {len(wanted)}, {len(found)})"]
    return [f"{path}: {wanted!r} became {found!r}"]
