"""The output of `decide`: actions in order, events, status and the next wake-up.

`cluster/writing/actuator.py` executes the actions. Waiting is data (`wake_after`), never an
exception.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from springtide_operator.lifecycle.queues.actions import (
    ActivateWorkload,
    DeactivateWorkload,
    QueueAction,
    queue_subject,
)
from springtide_operator.lifecycle.routes.actions import (
    CreateCanaryService,
    RouteAction,
    SetRouteWeights,
    route_subject,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from typing import Any, Literal

    from springtide_api.contract import RunFile
    from springtide_api.generation.rollout import AnalysisSample
    from springtide_api.generation.spec import GenerationSpec
    from springtide_api.generation.status import GenerationStatus
    from springtide_api.placement import Placement
    from springtide_api.update.rollout import Target
    from springtide_api.update.status import UpdateStatus

    NotificationKind = Literal[
        "verdict", "retired", "promoted", "rollbackstarted", "rolledback", "actionrequired"
    ]

RECHECK = timedelta(seconds=30)
"""How soon to decide again on what no watch reports."""

LIVE_ROLE = "live"
"""Value of the label springtide.dev/role on pods that serve the live generation."""

CANARY_ROLE = "canary"
"""Value of that label on canary pods, and on the Deployment of a canary."""

TOO_MANY_PROBES = "TooManyProbes"
"""Reason of a Waiting that ends when it is the update's turn to start a probe."""


@dataclass(frozen=True)
class CreateGeneration:
    """Create a generation. An existing one of the same name is accepted if it is ours."""

    name: str
    spec: GenerationSpec
    owned: bool
    """deletionPolicy Delete: it is deleted with its update."""
    probe_uid: str = ""


@dataclass(frozen=True)
class WriteGeneration:
    """Write the status of a generation, where it differs."""

    name: str
    status: GenerationStatus


@dataclass(frozen=True)
class AdoptGeneration:
    """Set the uid label (and owner reference, if owned) of a generation to this update."""

    name: str
    owned: bool


@dataclass(frozen=True)
class DeleteGeneration:
    """Delete the record of a generation beyond the history."""

    name: str
    uid: str


@dataclass(frozen=True)
class StartJob:
    """Run one stage. An existing Job of that name is accepted if it is ours."""

    run: RunFile
    image: str
    nodes: int = 1
    """Pods that run it together; with several it is a JobSet."""
    gpus: int = 0
    """Of each pod."""
    placement: Placement | None = None
    """Where its pod runs; None: where the installation says."""
    trigger: str = ""
    request: str = ""


@dataclass(frozen=True)
class SuspendJob:
    """Suspend a running Job, or resume it; never one in a queue of Kueue."""

    name: str
    uid: str
    suspend: bool
    is_job_set: bool = False


@dataclass(frozen=True)
class DeleteJob:
    """Delete a Job and its pods."""

    name: str
    uid: str
    is_job_set: bool = False


@dataclass(frozen=True)
class Serving:
    """The generation that a target should run."""

    number: int
    digest: str
    uri: str


@dataclass(frozen=True)
class Serve:
    """One apply of all that we own in one target; `serving` None: claim it, serve nothing."""

    target: Target
    target_uid: str
    serving: Serving | None
    highest_number: int | None
    """Highest number of any generation so far; it must never be used again."""
    force_at_version: str = ""
    """Apply by force, for exactly this resourceVersion: others own nothing but our labels and
    annotations. Empty: never by force."""
    take_back: bool = False
    """Remove the ownership of other field managers in both variables before: an apply of the value
    that they have set would only share it."""


@dataclass(frozen=True)
class ApplyCanary:
    """Create or change the Deployment of a canary: the target's pod template with another model."""

    name: str
    target: Target
    target_uid: str
    template: str
    """Digest of the target's template that was observed: with another one nothing is written."""
    serving: Serving
    replicas: int
    uid: str = ""
    """Of the canary as observed; empty: there is none."""
    dropped_labels: frozenset[str] = frozenset()
    """With traffic Gateway: keys of labels of the target's pods that canary pods do not have."""
    selector: tuple[tuple[str, str], ...] = ()
    """With traffic Gateway: the labels that select canary pods; empty: those of the target's pods
    and the role."""
    route: str = ""
    """With traffic Gateway: name of the HTTPRoute that leads to it."""
    service: str = ""
    """With traffic Gateway: name of the target's Service."""


@dataclass(frozen=True)
class DeleteCanary:
    """Delete the Deployment of a canary and its pods."""

    name: str
    uid: str


@dataclass(frozen=True)
class SetFinalizer:
    """Add our finalizer to the update, or remove it."""

    present: bool


Action = (
    CreateGeneration
    | WriteGeneration
    | AdoptGeneration
    | DeleteGeneration
    | StartJob
    | SuspendJob
    | DeleteJob
    | Serve
    | ApplyCanary
    | DeleteCanary
    | SetFinalizer
    | RouteAction
    | QueueAction
)


def subject(action: Action) -> str:
    """Return what an action writes to: a retried write has the same subject."""
    if isinstance(action, Serve):
        return f"Deployment {action.target.target_ref.name}"
    if isinstance(action, ApplyCanary):
        return f"Deployment {action.name}"
    if isinstance(action, DeleteCanary):
        return f"deletion of Deployment {action.name}"
    if isinstance(action, SetFinalizer):
        return "finalizer"
    if isinstance(action, StartJob):
        return f"{'JobSet' if action.nodes > 1 else 'Job'} {action.run.job}"
    if isinstance(action, CreateCanaryService | SetRouteWeights):
        return route_subject(action)
    if isinstance(action, DeactivateWorkload | ActivateWorkload):
        return queue_subject(action)
    return f"{type(action).__name__} {_kind(action)} {action.name}"


def _kind(action: Action) -> str:
    if isinstance(action, SuspendJob | DeleteJob):
        return "JobSet" if action.is_job_set else "Job"
    return "ModelGeneration"


@dataclass(frozen=True)
class Query:
    """A query that is due; the reconciler asks Prometheus after the plan."""

    generation: str
    """Name of the generation that it is about."""
    metric: str
    address: str
    expression: str
    """PromQL, with its placeholders replaced."""
    part: str = ""
    """Which number of the metric it is; empty: there is only one."""
    at: datetime | None = None
    """The moment that it asks about; None: the moment of the answer."""


@dataclass(frozen=True)
class Event:
    """An Event on the update (or on a generation)."""

    reason: str
    message: str
    type: Literal["Normal", "Warning"] = "Normal"
    generation: str = ""
    """Name of the ModelGeneration that it is about; empty: the update."""


@dataclass(frozen=True)
class Notification:
    """What happened to an update, for receivers outside the cluster.

    It follows from recorded facts alone: the same fact has the same id.
    """

    uid: str
    """Of the generation that it is about, or of the update."""
    fact: str
    """What of this object, unique for each occurrence."""
    kind: NotificationKind
    namespace: str
    update: str
    at: datetime | None
    """When it happened; None: no time of it is recorded."""
    generation: str = ""
    """Name of the ModelGeneration that it is about."""
    verdict: str = ""
    outcome: str = ""
    reason: str = ""
    message: str = ""
    live: str = ""
    """Name of the live generation."""
    previous: str = ""
    """Name of the generation that was live before."""

    @property
    def id(self) -> str:
        """By which a receiver recognizes it when it comes again."""
        return f"{self.uid}/{self.fact}"


@dataclass(frozen=True)
class Waiting:
    """Why the update waits."""

    reason: str
    """One word."""
    message: str
    """A sentence with the numbers and what to do."""
    stage: str = ""
    short: str = ""
    """For the column; default the reason."""
    blocked: bool = False
    """The user must act: Stalled."""
    targets: bool = False
    """It concerns a target: TargetsInSync."""
    held: bool = False
    """The user must act, though nothing is wrong with the spec: ActionRequired alone."""


@dataclass(frozen=True)
class Step:
    """The result of one stage."""

    actions: tuple[Action, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `UpdateStatus` that are facts: cursor, last_request, last_probe,
    acknowledged_holds, counters, targets' reapplied."""
    events: tuple[Event, ...] = ()
    waiting: Waiting | None = None
    wake_after: timedelta | None = None


@dataclass(frozen=True)
class Plan:
    """The outcome of `decide`: actions in order, then events, then the update's status."""

    actions: tuple[Action, ...]
    events: tuple[Event, ...]
    status: UpdateStatus
    wake_after: timedelta | None
    """None: nothing to wait for but events."""
    status_events: tuple[Event, ...] = ()
    """Events of changes in the status: posted before it is written."""
    notifications: tuple[Notification, ...] = ()
    """Everything that is recorded once this plan is executed and its status is written."""
    facts: bool = False
    """The status holds new facts: it must be written before anything else is decided. Otherwise a
    plan with actions may leave the status to the next one, which follows at once."""
    queries: tuple[Query, ...] = ()
    """What to measure now."""
    samples: tuple[AnalysisSample, ...] = ()
    """The newest sample of each metric of rollout.analysis during a canary or a bake."""
    canary_weight: int | None = None
    """Share of the canary in percent; None: there is none."""
    warm_pods: int = 0
    """Available pods of the previous generation that rollback.keepWarm keeps."""
    warm_pods_missing: int = 0
    """Pods that rollback.keepWarm lacks."""
    holdback_weight: int | None = None
    """Share of the previous generation in percent during a bake; None: it has none."""
    waits_for_turn: bool = False
    """A probe is due, and other updates are before it."""
    awaits_approval: bool = False
    """An accepted generation waits for a person, whatever else a user must do first."""

    @property
    def requeue(self) -> bool:
        """Whether to reconcile again at once: no watch reports own writes."""
        return bool(self.actions) or self.facts
