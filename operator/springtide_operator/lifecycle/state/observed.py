"""Jobs, pods, targets and refused writes as an observation holds them.

Plain frozen values without behaviour; `cluster/reading` creates them from raw objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_api.contract import Result
    from springtide_api.update.rollout import Target

MAX_RETRY_DELAY = timedelta(minutes=1)
"""A refused write is retried after this time at the latest."""

OWN_KEYS_TAKEN = "OwnKeysTaken"
"""Reason of a refusal: another field manager owns our labels and annotations, and nothing else of
ours; the next apply takes these back by force."""

NO_SERIES = "no series"
"""Problem of a sample whose query found nothing."""


@dataclass(frozen=True)
class ObservedPod:
    """A pod of one of our Jobs."""

    name: str
    uid: str
    created: datetime
    index: int = 0
    """Which of several pods it is; the first one has the result."""
    scheduled: bool = False
    running: bool = False
    started: datetime | None = None
    """When its container started."""
    ended: datetime | None = None
    """When its container ended."""
    image_digest: str | None = None
    """Digest of the image that its container runs, as the node reports it."""
    exit_code: int | None = None
    """Of the trainer's container once it terminated."""
    out_of_memory: bool = False
    """The kernel ended it: reason OOMKilled."""
    disrupted: bool = False
    """Condition DisruptionTarget is True: an attempt that does not count."""
    reason: str = ""
    """Why it failed as a whole, such as Evicted, DeadlineExceeded or UnexpectedAdmissionError. It
    is more specific than the exit code of the container."""
    ended_for: str = ""
    """The message that comes with that reason."""
    waiting: str = ""
    """Why it does not run yet, as scheduler or kubelet report it: "no node has a free
    nvidia.com/gpu", "image pull failed: ..."."""


@dataclass(frozen=True)
class ObservedJob:
    """A Job with our labels, or a JobSet: a training on several nodes."""

    name: str
    uid: str
    owner_uid: str
    """Uid of its controller; ours only if it is the update's."""
    stage: str
    number: int | None
    attempt: int
    created: datetime
    succeeded: bool = False
    failed: bool = False
    finished: datetime | None = None
    failure: str = ""
    """Reason and message of the Job's Failed condition, such as DeadlineExceeded."""
    suspended: bool = False
    suspended_by_us: bool = False
    """Annotation springtide.dev/suspended: only then is it ours to resume."""
    queue: str = ""
    """Label kueue.x-k8s.io/queue-name: Kueue suspends and resumes it, never we."""
    suspended_at: datetime | None = None
    resuming: bool = False
    """It may continue, and its controller has not observed that yet."""
    resumed: datetime | None = None
    """Since when its controller runs it: since its start or the last resume."""
    deleting: bool = False
    nodes: int = 1
    """Pods that run at one time: of a JobSet annotation springtide.dev/nodes, of pods that share
    rows the completions of their Job."""
    gpus: int = 0
    """Annotation springtide.dev/gpus: GPUs of each pod."""
    placement: str = ""
    """Annotation springtide.dev/placement: digest of the placement that its update asked for;
    empty: for none."""
    image: str = ""
    """Annotation springtide.dev/image: the image of its pod, by name."""
    request: str = ""
    """Annotation springtide.dev/request: the request that this probe serves."""
    trigger: str = ""
    """Annotation springtide.dev/trigger: Schedule, OnData or Request."""
    cursor: datetime | None = None
    """Annotation springtide.dev/cursor: where the window of this probe begins."""
    quarantined: frozenset[str] = frozenset()
    """Annotation springtide.dev/quarantined: quarantined partitions that this probe excludes."""
    excluded: frozenset[int] = frozenset()
    """Annotation springtide.dev/excluded-generations: those whose rows this probe leaves out."""
    probed: str = ""
    """Annotation springtide.dev/spec-digest: digest of the part of the spec that it depends on."""
    spec_generation: int = 0
    """Annotation springtide.dev/spec-generation: metadata.generation of the update at its start."""
    pods: tuple[ObservedPod, ...] = ()
    problem: str = ""
    """Why it has no pod, from its events: quota exceeded, Pod Security, admission."""
    result: Result | None = None
    """What its pod's termination message says; None where it is missing, not JSON, too long or of
    another job. Of several pods: that of the first one, or of the one that failed."""

    @property
    def is_job_set(self) -> bool:
        """Whether it is a JobSet: a training on several nodes."""
        return self.nodes > 1 and self.stage == "train"

    @property
    def shares_rows(self) -> bool:
        """Whether its pods share rows: they do not wait for each other."""
        return self.nodes > 1 and self.stage in {"tokenize", "evaluate"}

    @property
    def named(self) -> str:
        """Its kind and name, for messages."""
        return f"{'JobSet' if self.is_job_set else 'Job'} {self.name}"


@dataclass(frozen=True)
class ObservedProgress:
    """What a trainer last reported."""

    percent: int | None
    eta_seconds: int | None
    metrics: tuple[tuple[str, float], ...]
    at: datetime


@dataclass(frozen=True)
class ObservedSample:
    """What Prometheus answered to one query."""

    generation: str
    """Name of the generation that it is about."""
    metric: str
    expression: str
    """The query, with its placeholders replaced."""
    at: datetime
    value: float | None = None
    """None: it has no number."""
    problem: str = ""
    """Why it has none."""
    invalid: bool = False
    """A user must change the query, the address or what the installation allows."""
    part: str = ""
    """Which number of the metric it is; empty: there is only one."""


@dataclass(frozen=True)
class ObservedTarget:
    """A user's Deployment: the fields that matter here."""

    target: Target
    uid: str = ""
    """Empty: it does not exist."""
    deleting: bool = False
    has_container: bool = False
    containers: tuple[str, ...] = ()
    """Names of the containers in its template."""
    claimed_by: str = ""
    """Value of the label springtide.dev/update; empty where it is not claimed."""
    number: int | None = None
    """Value of the template's label springtide.dev/generation, where it is ours."""
    highest_number: int | None = None
    """Annotation springtide.dev/number on the Deployment: the highest number ever served here."""
    digest: str | None = None
    """Value of the digest variable in the container; None where it is absent."""
    uri: str | None = None
    """Value of the uri variable."""
    foreign_manager: str = ""
    """A field manager other than ours that owns one of our two variables."""
    template: str | None = None
    """Digest of its pod template without what we own in it."""
    changed_by: str = ""
    """The field manager, other than us, that wrote to its template last."""
    paused: bool = False
    desired: int = 0
    updated: int = 0
    """Pods of the newest template."""
    available: int = 0
    """Available pods; of the newest template only once `old` is 0."""
    old: int = 0
    """Pods of older templates that are still there."""
    ready: int | None = None
    """Ready pods of the newest template; None where they were not read, as all are available."""
    failing: int = 0
    """Pods of the newest template whose serving container started and is not ready."""
    settled: bool = False
    """status.observedGeneration has caught up with metadata.generation."""
    stalled: str = ""
    """Message of condition Progressing=False (ProgressDeadlineExceeded)."""
    stalled_at: datetime | None = None
    """When that was reported, as far as it is known."""
    complete: bool = True
    """All pods of its newest template were available once: condition Progressing has reason
    NewReplicaSetAvailable."""
    version: str = ""
    """metadata.resourceVersion."""
    trouble: str = ""
    """Why its newest pods are not ready, as the kubelet reports it, if known."""
    named: frozenset[str] = frozenset()
    """Digests that its template and ReplicaSets with pods or history still name."""
    not_copied: str = ""
    """Why no second Deployment can run pods of its template, such as a hostPort; empty: it can."""


@dataclass(frozen=True)
class ObservedCanary:
    """The Deployment of a canary, or another one that has its name."""

    of: str
    """Name of the target that it was made from."""
    deployment: ObservedTarget
    """Its pods and what they run; its own name is in `target`."""
    ours: bool
    """It has our labels: this update, role canary."""
    made_from: str = ""
    """Digest of the target's template that it was made from."""
    edited_by: str = ""
    """A field manager other than ours that wrote to its template."""
    route: str = ""
    """With traffic Gateway: name of the HTTPRoute that leads to it, as written at its creation."""
    service: str = ""
    """With traffic Gateway: name of the target's Service."""
    created: datetime | None = None
    """Its creation, as far as it is known."""

    @property
    def name(self) -> str:
        """Name of the Deployment."""
        return self.deployment.target.target_ref.name


@dataclass(frozen=True)
class Refusal:
    """A write that the API server refused, and would refuse again until something else changes."""

    subject: str
    """What was to be written, as `plan.subject` names it."""
    reason: str
    """One word: JobRefused, ApplyRefused, NameCollision, WriteRefused or OwnKeysTaken."""
    message: str
    """The message of the API server, and what to do."""
    again_at: datetime
    """When it is retried, if it is still needed."""
    since: datetime
    """When it was refused first, as far as this process knows."""

    def is_pending(self, now: datetime) -> bool:
        """Whether it is too early to retry. A clock that was set back causes no long wait."""
        return timedelta(0) < self.again_at - now <= MAX_RETRY_DELAY


@dataclass(frozen=True)
class Defaults:
    """What the installation provides."""

    trainer_image: str
    progress_url: str
    max_probes: int = 10
    """Probes that run or start at one time in the cluster."""
    max_probes_per_namespace: int = 5
    """Probes at one time in a namespace, those whose pods cannot run included."""
    prometheus_hosts: frozenset[str] = frozenset()
    """Hosts that rollout.analysis may query."""
    hub_endpoint: str = ""
    """The hub that initial models may come from; empty: none."""


@dataclass(frozen=True)
class ProbeCounts:
    """The probes of the whole cluster, and the updates that wait for their turn."""

    running: int = 0
    """In the cluster, without those whose pods cannot run."""
    namespace: int = 0
    """In the update's namespace, all that have not ended."""
    ahead: int = 0
    """Updates whose turn comes before this one's; 0 where none may start anyway."""
