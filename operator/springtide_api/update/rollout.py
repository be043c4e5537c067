"""The Deployments that serve the model, and how an accepted generation reaches their pods."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from springtide_api.schema import Duration, Model, Name, ObjectName, cel
from springtide_api.update.analysis import Analysis, Bake


class TargetRef(Model):
    """A Deployment in the namespace of the update."""

    kind: Literal["Deployment"] = "Deployment"
    """Kind of the target. Default Deployment."""
    name: ObjectName
    """Name of the Deployment."""


@cel(
    "self.uri != self.digest",
    "uri and digest must be different variables; rename one",
    "uri",
)
class TargetEnv(Model):
    """Names of the environment variables that tell the server which model to load."""

    uri: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = "MODEL_URI"
    """Variable that is set to the folder of the model. Default MODEL_URI."""
    digest: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = (
        "MODEL_DIGEST"
    )
    """Variable that is set to the expected digest of the model. Default MODEL_DIGEST."""


ServiceName = Annotated[
    str, Field(min_length=1, max_length=56, pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$")
]
"""Name of a Service that has room for -canary."""


class Target(Model):
    """A container of a Deployment that serves the model.

    Springtide owns two environment variables of the container, and three labels and three
    annotations of the Deployment. It changes nothing else.
    """

    target_ref: TargetRef
    """The Deployment. It can be the target of one update only."""
    container: Name
    """Name of the container that serves the model."""
    env: TargetEnv = TargetEnv()
    """Names of the environment variables. Default: MODEL_URI and MODEL_DIGEST."""
    service: ServiceName | None = None
    """Service of the Deployment's pods, at most 56 characters, which httpRoute names as a backend.
    For the canary, the operator creates a Service <service>-canary with the same ports, which
    stays. Required with traffic Gateway, forbidden otherwise."""
    http_route: ObjectName | None = None
    """HTTPRoute of the Gateway API (gateway.networking.k8s.io/v1) in the same namespace. Its rules
    name both Services: service with weight 100, service-canary with weight 0. The operator changes
    only these weights. Required with traffic Gateway, forbidden otherwise."""


class Rollback(Model):
    """What a rollback does, and when."""

    automatic: bool = True
    """Whether a promoted generation that fails its bake is rolled back at once. With false,
    ActionRequired is set instead, and the request rollback or promote decides. A canary that fails
    is always removed. Default true."""
    freeze_after: Annotated[int | None, Field(ge=1, le=10)] = None
    """Number of generations rolled back in a row after which no run and no rollout starts before
    the request unfreeze. A promotion that is not rolled back ends the row. Default: never."""
    quarantine_window: bool = False
    """Quarantine the partitions that a generation was trained on as soon as it is rolled back after
    its promotion. Otherwise no run starts before a request: quarantine leaves them out, retry
    trains on them again. Default false."""
    keep_warm: bool = False
    """Keep as many pods of the previous generation as the target has while a promoted one bakes, in
    the Deployment of the canary and without requests. A rollback in the bake is then one write of
    the HTTPRoute: these pods get all requests until the target runs the previous generation again.
    It takes twice the pods for the time of the bake. With bake.holdback these pods have its share
    of the requests meanwhile. Needs traffic Gateway and bake. Default false."""


@cel(
    "duration(self.duration) >= duration('10s')",
    "duration must be at least 10s; 10m is usual",
    "duration",
)
class CanaryStep(Model):
    """One step of a canary."""

    weight: Annotated[int, Field(ge=1, le=99)]
    """Share of the canary in percent, 1 to 99. With traffic Replicas it is the share of canary pods
    among all pods: with 9 pods, one canary pod has 10 percent. A weight that whole pods do not
    reach within 5 percentage points is refused before the first step."""
    duration: Duration
    """Time that the canary keeps this weight, from the moment in which all its pods are
    available. It is kept longer while the newest sample of a metric of analysis does not pass."""
    min_requests: Annotated[int | None, Field(ge=1, le=1_000_000_000)] = None
    """The step also lasts until the canary has had so many requests at this weight, by total of the
    first ratio metric of analysis. Default: its duration decides."""


class Traffic(Model):
    """How traffic reaches the canary."""

    type: Literal["Replicas", "Gateway"] = "Replicas"
    """Replicas: the canary pods have the labels of the target's pods, so that its Service selects
    them, too; the share of pods is the share of traffic. Gateway: an HTTPRoute of the Gateway API
    splits the requests between the target's Service and that of the canary; needs service and
    httpRoute of each target. Default Replicas."""


@cel(
    "self.steps.map(step, step.weight).isSorted() && "
    "self.steps.all(a, self.steps.exists_one(b, a.weight == b.weight))",
    "weights of steps must ascend, each higher than the one before",
)
class Canary(Model):
    """Steps in which a few pods serve the new generation beside the live one."""

    steps: Annotated[list[CanaryStep], Field(min_length=1, max_length=10)]
    """Steps, in order. After the last one the targets get the generation while the canary keeps its
    weight; then the canary is removed."""
    traffic: Traffic = Traffic()
    """How traffic reaches the canary. Default: Replicas."""


@cel(
    "(self.type == 'Canary') == has(self.canary)",
    "canary goes with type Canary: set both or neither",
    "type",
)
class Strategy(Model):
    """Strategy of the rollout."""

    type: Literal["RollingUpdate", "Canary"] = "RollingUpdate"
    """RollingUpdate: the strategy of the Deployment itself applies. Canary: first a Deployment
    <target>-canary, made from the target's pod template, serves a share of the traffic, step by
    step; the target keeps its pods. The first generation, a rollback and a pin use RollingUpdate.
    Default RollingUpdate."""
    canary: Canary | None = None
    """Steps and traffic of a canary. Required with type Canary, forbidden otherwise."""


class Pin(Model):
    """A generation that the targets serve instead of the live one, until the pin is removed."""

    generation: Annotated[int, Field(ge=0, le=2_147_483_647)]
    """Number of the generation. It must have been promoted once and not rolled back, and its
    weights must still exist; status.history lists the outcomes. The live generation may be pinned,
    too: then nothing changes what is served."""


_CANARY = "has(self.strategy) && has(self.strategy.canary)"

_GATEWAY = (
    f"{_CANARY} && has(self.strategy.canary.traffic) && "
    "self.strategy.canary.traffic.type == 'Gateway'"
)

_HOLDBACK = "has(self.bake) && has(self.bake.holdback)"

_KEEP_WARM = "has(self.rollback) && has(self.rollback.keepWarm) && self.rollback.keepWarm"


@cel(
    "self.targets.all(a, self.targets.exists_one(b, a.targetRef.name == b.targetRef.name))",
    "targets must name different Deployments; remove the repeated one",
)
@cel(
    "duration(self.deadline) >= duration('10s')",
    "deadline must be at least 10s: new pods need time to become available; 10m is usual",
    "deadline",
)
@cel(
    f"size(self.targets) > 0 || "
    f"!(has(self.bake) || has(self.analysis) || has(self.pin) || {_CANARY})",
    "targets is [], so no pod serves a generation: bake, analysis, pin and strategy.type Canary "
    "have nothing to act on; remove them",
)
@cel(
    f"!has(self.analysis) || has(self.bake) || {_CANARY}",
    "analysis needs bake or a canary: its metrics are watched during the steps of a canary and "
    "while a promoted generation bakes; add bake.duration, or strategy.type Canary",
)
@cel(
    f"!has(self.analysis) || {_CANARY} || self.analysis.metrics.all(metric, !has(metric.ratio))",
    "a ratio metric needs strategy.type Canary: it compares the canary with the live generation",
)
@cel(
    f"!({_CANARY}) || "
    "self.strategy.canary.steps.all(step, !has(step.minRequests)) || "
    "has(self.analysis) && self.analysis.metrics.exists(metric, has(metric.ratio))",
    "minRequests of a step needs a ratio metric in analysis: its total counts the requests",
)
@cel(
    f"!({_GATEWAY}) || self.targets.all(target, has(target.service) && has(target.httpRoute))",
    "traffic type Gateway needs service and httpRoute of each target",
)
@cel(
    f"({_GATEWAY}) || self.targets.all(target, !has(target.service) && !has(target.httpRoute))",
    "service and httpRoute of a target go with strategy.canary.traffic.type Gateway; set it, or "
    "remove both",
)
@cel(
    "self.targets.all(a, !has(a.service) || "
    "self.targets.exists_one(b, has(b.service) && b.service == a.service))",
    "targets must have different services: the Service of the canary, <service>-canary, selects "
    "the canary pods of one target; give each target a Service of its own",
)
@cel(
    f"!({_KEEP_WARM}) || ({_GATEWAY})",
    "rollback.keepWarm needs strategy.canary.traffic.type Gateway: an HTTPRoute returns the "
    "requests; set it, or remove keepWarm",
)
@cel(
    f"!({_KEEP_WARM}) || has(self.bake)",
    "rollback.keepWarm needs bake: pods of the previous generation are kept while a promoted one "
    "bakes; add bake.duration, or remove keepWarm",
)
@cel(
    f"!({_HOLDBACK}) || ({_GATEWAY})",
    "bake.holdback needs strategy.canary.traffic.type Gateway: an HTTPRoute gives the previous "
    "generation its share of the requests; set it, or remove holdback",
)
@cel(
    f"!({_HOLDBACK}) || "
    "has(self.analysis) && self.analysis.metrics.exists(metric, has(metric.ratio))",
    "bake.holdback needs a ratio metric in analysis: the share is kept so that it can compare the "
    "promoted generation with the previous one; add one, or remove holdback",
)
class Rollout(Model):
    """How an accepted generation is rolled out to the serving pods."""

    targets: Annotated[list[Target], Field(max_length=4)]
    """Deployments that serve the model, at least one; [] for task MaskedLM, which serves nothing:
    there an accepted generation is live at once. Several targets are promoted or rolled back
    together. A target that is removed from the list continues to serve its generation, whose
    weights are kept until the label springtide.dev/update is removed from the Deployment."""
    strategy: Strategy = Strategy()
    """Strategy of the rollout. Default: RollingUpdate."""
    deadline: Duration = "10m"
    """Maximum time for the new pods to become available; after that all targets are rolled back.
    Default 10m."""
    bake: Bake | None = None
    """How long a promoted generation is watched. If its pods fail, or a metric of analysis does,
    it is rolled back. Default: it is not watched."""
    analysis: Analysis | None = None
    """Metrics that are watched during the steps of a canary and in the bake. Default: only the pods
    are watched."""
    rollback: Rollback = Rollback()
    """What a rollback does, and when."""
    pin: Pin | None = None
    """Serve one generation, whatever the gate accepts. All targets get it at once, without steps; a
    rollout in progress is aborted and may start again later. No run, probe or rollout starts while
    it is set, and a running Job is suspended. Once it is removed, the targets return to the live
    generation. Default: no pin."""
