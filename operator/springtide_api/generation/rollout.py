"""The status of a rollout: its targets, its attempts, its bake and its rollback."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from springtide_api.generation.comparison import Comparison
from springtide_api.schema import Decimal, Digest, Model, Name, ObjectName, Text, Time, Word
from springtide_api.update.rollout import Target, TargetEnv, TargetRef

MAX_WEIGHT = 1_000_000
"""Of a backend, by the Gateway API."""


class RuleWeight(Model):
    """The weight of a target's Service in one rule of its HTTPRoute before the rollout."""

    rule: Annotated[int, Field(ge=0, le=15)]
    """Index of the rule, from 0."""
    weight: Annotated[int, Field(ge=0, le=MAX_WEIGHT)]
    """Weight of the Service. That of the canary was 0."""


class RolloutRoute(Model):
    """The HTTPRoute of a target as it was when its canary started. A rollback restores it."""

    name: ObjectName
    """Name of the HTTPRoute."""
    service: ObjectName
    """Service of the target. That of the canary is <service>-canary."""
    weights: Annotated[list[RuleWeight], Field(max_length=16)] = []
    """Weights of the Service, as the owner of the route wrote them."""
    weight: Annotated[int, Field(ge=0, le=100)] = 0
    """Share of the canary in percent that the route was last seen with; 0 from the decision on that
    the canary gets no more requests. During a bake, that of the previous generation by
    rollout.bake.holdback. 100 in a rollback while pods of the previous generation, which
    rollback.keepWarm had kept, get all requests."""
    shifted_at: Time | None = None
    """When the route was seen with all weight on these pods."""
    withdrawn_at: Time | None = None
    """When the canary had weight 0 again at its end. Its pods are deleted 15 s later. Unset while
    they may get requests."""


class RolloutTarget(Model):
    """A target as it was when the rollout started. A rollback uses this, not the spec."""

    name: ObjectName
    """Name of the Deployment."""
    container: Name
    """Container that serves the model."""
    env: TargetEnv = TargetEnv()
    """Names of its environment variables."""
    template: Digest | None = None
    """Digest of its pod template without the fields that the operator owns."""
    route: RolloutRoute | None = None
    """Its HTTPRoute, in a canary with traffic Gateway."""

    def declared(self) -> Target:
        """Return it as a target of a spec."""
        reference = TargetRef(name=self.name)
        return Target(
            target_ref=reference,
            container=self.container,
            env=self.env,
            service=self.route.service if self.route else None,
            http_route=self.route.name if self.route else None,
        )


class AnalysisSample(Model):
    """One sample of a metric of rollout.analysis."""

    time: Time
    """When Prometheus answered."""
    metric: Name
    """Name of the metric."""
    value: Decimal | None = None
    """Its value; of a ratio metric, how much higher the share of bad requests is than that of the
    generation that it is compared with. Unset without a number."""
    bound: Word = ""
    """The bounds that it is compared with, such as "max 0.25" or "maxRegression 0.005"."""
    verdict: Word
    """Pass, Fail, NoData (Prometheus has no number or is away) or Error (the query or the address
    must be changed)."""
    message: Word = ""
    """Why there is no number; of a ratio metric, the requests of both sides and the e-value."""


class RolloutAttempt(Model):
    """An earlier rollout of the same generation."""

    started_at: Time | None = None
    """When it started; of a canary, when its last step started."""
    ended_at: Time
    """When the targets were back."""
    outcome: Word
    """RolloutFailed: the cause was not the generation's own, such as an image that could not be
    pulled."""
    reason: Text = ""
    """Why it ended."""


class RolloutStatus(Model):
    """State of the rollout."""

    step_started_at: Time | None = None
    """When the rollout started; of a canary, when its step started, or the rollout to the targets
    after the last step."""
    deadline: Time | None = None
    """When the rollout is rolled back if the pods are not available by then."""
    held_since: Time | None = None
    """Since when the deadline does not run because a target is missing, paused, scaled to 0 or
    being changed by another client."""
    resumed_at: Time | None = None
    """When the deadline ran again after that, the last time."""
    targets: Annotated[list[RolloutTarget], Field(max_length=8)] = []
    """The targets as they were when the rollout started, or when a later change by their owner was
    complete. Targets that were removed from the spec come last."""
    step: Annotated[int | None, Field(ge=1)] = None
    """Number of the step of rollout.strategy.canary, from 1; unset with RollingUpdate. After the
    rollout it is the last step that started."""
    weight: Annotated[int | None, Field(ge=1, le=99)] = None
    """Share of the canary in percent that this step asks for; unset with RollingUpdate."""
    weight_seen_at: Time | None = None
    """When the canary had this weight: all its pods were available, and with traffic Gateway every
    HTTPRoute had the weight. The duration of the step counts from then."""
    steps_ended_at: Time | None = None
    """When the last step ended. From then on the targets get the generation, while the canary keeps
    its weight until all their pods are available."""
    promoted_at: Time | None = None
    """When all targets were available with this generation. The generation with the newest
    promotedAt and without a rollbackReason is live."""
    bake_started_at: Time | None = None
    """When the bake started: at the promotion, or again once no other generation was pinned."""
    bake_until: Time | None = None
    """When the bake ends if the newest sample of each metric passes by then; unset without
    rollout.bake."""
    holdback: Annotated[int | None, Field(ge=1, le=50)] = None
    """Share in percent that routes have by rollout.bake.holdback, or are about to get; unset before
    the first one of a bake."""
    holdback_seen_at: Time | None = None
    """When every HTTPRoute was seen with the share of rollout.bake.holdback. The requests that the
    ratio metrics of the bake compare count from then; unset while a route has another share."""
    baked_at: Time | None = None
    """When the bake ended."""
    unavailable_since: Time | None = None
    """Since when pods of this generation fail during the bake, or canary pods are not available
    after weightSeenAt. It stays until all have been available for the time of rollout.deadline."""
    recovered_at: Time | None = None
    """When all pods were available again after unavailableSince."""
    analysis: Annotated[list[AnalysisSample], Field(max_length=16)] = []
    """The newest samples of the metrics of rollout.analysis, oldest first."""
    comparisons: Annotated[list[Comparison], Field(max_length=16)] = []
    """What the ratio metrics of rollout.analysis have shown since the first step of the canary, and
    with rollout.bake.holdback in the bake."""
    rollback_reason: Text = ""
    """Why it is or was rolled back. From then on it is neither live nor a parent, and neither it
    nor another generation with its servedDigest is served again."""
    rollback_started_at: Time | None = None
    """When the rollback was decided."""
    failure: Word = ""
    """Cause of a failed rollout that is not the generation's own: ImagePullFailed, Unschedulable,
    NodeLost, QuotaExceeded, PodsForbidden, ContainerNotCreated (such as for want of a Secret that
    the pod template names) or NoData (the metrics of rollout.analysis had no number). The request
    retry.g<number> rolls the generation out again."""
    attempts: Annotated[list[RolloutAttempt], Field(max_length=8)] = []
    """Earlier rollouts that failed, the newest last."""
    take_back: Annotated[list[ObjectName], Field(max_length=8)] = []
    """Deployments on which another field manager has set the two variables, and on which the
    requested rollback takes them back by force, once."""
    rolled_back_at: Time | None = None
    """When all targets were back on the previous generation."""
