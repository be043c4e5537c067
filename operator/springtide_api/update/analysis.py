"""Metrics of live traffic that Prometheus has: fixed bounds, or a comparison with live."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from springtide_api.schema import (
    VALIDATIONS,
    Decimal,
    Duration,
    Fraction,
    Model,
    Name,
    cel,
    rule,
)

PLACEHOLDERS = ("namespace", "target", "generation", "role")
"""What a query may name in double braces."""

RING = 16
"""Samples that a status keeps."""

_TEMPLATE = "^([^{]|[{][^{]|[{]{2}(" + "|".join(PLACEHOLDERS) + ")[}]{2})*$"
_KNOWN = "double braces must name one of " + ", ".join(f"{{{{{p}}}}}" for p in PLACEHOLDERS)


def _known_placeholders(query: str) -> str:
    if re.fullmatch(_TEMPLATE, query, re.DOTALL) is None:
        raise ValueError(_KNOWN)
    return query


Query = Annotated[
    str,
    Field(
        min_length=1,
        max_length=1024,
        json_schema_extra=rule(f"self.matches('(?s){_TEMPLATE}')", _KNOWN),
    ),
    AfterValidator(_known_placeholders),
]
"""PromQL with placeholders."""


_STRING = r"""("([^"\\\n]|\\.)*"|'([^'\\\n]|\\.)*'|`[^`]*`)"""
_MATCHER = rf"\s*[a-zA-Z_][a-zA-Z0-9_]*\s*(=|!=|=~|!~)\s*{_STRING}\s*"
_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*\s*"
_LABELS = rf"[{{]({_MATCHER}(,{_MATCHER})*,?)?\s*[}}]\s*"
_SIDES = "a selector must contain {{generation}} or {{role}}: both sides would have the same counts"


def _selects_a_side(selector: str) -> str:
    if "{{generation}}" not in selector and "{{role}}" not in selector:
        raise ValueError(_SIDES)
    return selector


_OF_A_SIDE = "self.contains('{{generation}}') || self.contains('{{role}}')"

Selector = Annotated[
    str,
    Field(
        min_length=1,
        max_length=512,
        pattern=rf"^\s*({_NAME}({_LABELS})?|{_LABELS})$",
        json_schema_extra={
            VALIDATIONS: [
                {"rule": f"self.matches('(?s){_TEMPLATE}')", "message": _KNOWN},
                {"rule": _OF_A_SIDE, "message": _SIDES},
            ]
        },
    ),
    AfterValidator(_known_placeholders),
    AfterValidator(_selects_a_side),
]
"""A selector of counters in PromQL, with placeholders: a name, labels in braces, or both."""


_HOST = r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?"
_PORT = "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"


class Prometheus(Model):
    """The Prometheus that answers the queries."""

    address: Annotated[
        str,
        Field(
            max_length=256,
            pattern=f"^https?://{_HOST}(:{_PORT})?(/[-a-zA-Z0-9._~/]*)?$",
        ),
    ]
    """Its address, such as http://prometheus.monitoring:9090. Its host, with the port, must be one
    that the installation allows (value operator.prometheusHosts of the chart)."""


@cel(
    "has(self.min) || has(self.max)",
    "value needs min or max, or both",
)
@cel(
    "!(has(self.min) && has(self.max)) || double(self.min) <= double(self.max)",
    "min must be at most max: no number would pass",
    "min",
    "max",
)
class Value(Model):
    """A number with fixed bounds."""

    query: Query
    """PromQL that returns one number. {{namespace}}, {{target}}, {{generation}} and {{role}} are
    replaced by the namespace, the name of the Deployment (of several targets: all names, joined by
    |, for =~), the number of the generation and the role of its pods (canary during the steps of a
    canary, live in a bake)."""
    min: Decimal | None = None
    """The number must be at least this. Default: no lower bound."""
    max: Decimal | None = None
    """The number must be at most this. Default: no upper bound."""


class Ratio(Model):
    """Bad requests among all, of the canary compared with the live generation.

    In a bake with holdback, those of the promoted generation compared with the previous one.
    """

    bad: Selector
    """Selector of the counters of bad requests, such as
    http_requests_total{code=~"5..",generation="{{generation}}"}; no function, and no range in
    brackets. It is asked for the canary and for the live generation, since the canary has had its
    weight. The placeholders are those of value.query; {{generation}} and {{role}} are those of the
    side. In a bake with holdback the sides are the promoted generation, with role live, and the
    previous one, with role canary: its pods are in the Deployment of the canary."""
    total: Selector
    """Selector of the counters of all requests, the bad ones included."""
    max_regression: Fraction
    """The canary's share of bad requests may be higher by this much, from 0 to 1: 0.005 allows half
    a percentage point. A test that holds for any number of looks decides: equal generations are
    distinguished with probability 5 percent at most in the steps, and at most so again in a bake
    with holdback, where a new test begins."""


@cel("has(self.value) != has(self.ratio)", "a metric is value or ratio: set exactly one of them")
class Metric(Model):
    """One metric of live traffic: value or ratio."""

    name: Name
    """Name of the metric. It appears in status and messages."""
    value: Value | None = None
    """A number with fixed bounds. It is queried during the steps of a canary and in a bake."""
    ratio: Ratio | None = None
    """A comparison of the canary with the live generation, during the steps of a canary. With
    rollout.bake.holdback a bake has one, too, of the promoted generation with the previous one."""


@cel(
    "self.metrics.all(a, self.metrics.exists_one(b, a.name == b.name))",
    "metrics must have different names; rename the repeated one",
)
@cel(
    f"self.metrics.size() * self.failureLimit <= {RING}",
    f"failureLimit times the number of metrics must be at most {RING}: a status keeps as many "
    "samples",
)
@cel(
    "duration(self.interval) >= duration('5s')",
    "interval must be at least 5s; 1m is usual",
    "interval",
)
class Analysis(Model):
    """Metrics that are queried at each interval, during the steps of a canary and in a bake."""

    interval: Duration = "1m"
    """Time between two queries of a metric. Default 1m."""
    prometheus: Prometheus
    """The Prometheus that answers the queries."""
    metrics: Annotated[list[Metric], Field(min_length=1, max_length=8)]
    """Metrics, and their bounds. All are watched."""
    failure_limit: Annotated[int, Field(ge=1, le=RING)] = 3
    """A value metric fails when so many of its samples in a row are outside its bounds. A ratio
    metric needs no such row. Default 3."""
    on_no_data: Literal["Wait", "Hold", "Fail"] = "Wait"
    """What happens when failureLimit samples of a metric in a row have no number: Prometheus is
    away, refuses the query, or has no data. Wait: the step of the canary, or the bake, lasts until
    there is data. Hold: so too, and ActionRequired is set. Fail: the canary is removed, or the
    targets return to the generation before, with outcome RolloutFailed: the request
    retry.g<number> may roll it out again. Default Wait."""


@cel(
    "duration(self.duration) >= duration('10s')",
    "duration must be at least 10s; 30m is usual",
    "duration",
)
class Bake(Model):
    """How long a promoted generation is watched."""

    duration: Duration
    """Time after the promotion during which the generation may be rolled back automatically. The
    next generation rolls out after it; training goes on meanwhile."""
    holdback: Annotated[int | None, Field(ge=1, le=50)] = None
    """Share of the requests in percent, 1 to 50, that the previous generation keeps until the end
    of the bake, so that the ratio metrics of analysis go on comparing the promoted generation with
    it. Its pods are in the Deployment of the canary: that share of the target's number, rounded up.
    The bake lasts until each ratio metric has passed. Needs traffic Gateway and a ratio metric.
    Default: none; a ratio metric ends with the last step."""
