"""What is watched after a promotion: metrics of Prometheus, compared with fixed bounds."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from springtide_api.schema import Decimal, Duration, Model, Name, cel, rule

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
    |, for =~), the number of the generation and the role of its pods (live)."""
    min: Decimal | None = None
    """The number must be at least this. Default: no lower bound."""
    max: Decimal | None = None
    """The number must be at most this. Default: no upper bound."""


class Metric(Model):
    """One metric of live traffic."""

    name: Name
    """Name of the metric. It appears in status and messages."""
    value: Value
    """A number with fixed bounds."""


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
    """Metrics that are queried at each interval while a promoted generation bakes."""

    interval: Duration = "1m"
    """Time between two queries of a metric. Default 1m."""
    prometheus: Prometheus
    """The Prometheus that answers the queries."""
    metrics: Annotated[list[Metric], Field(min_length=1, max_length=8)]
    """Metrics, and their bounds. All are watched."""
    failure_limit: Annotated[int, Field(ge=1, le=RING)] = 3
    """A metric fails when so many of its samples in a row are outside its bounds. Default 3."""
    on_no_data: Literal["Wait", "Hold", "Fail"] = "Wait"
    """What happens when failureLimit samples of a metric in a row have no number: Prometheus is
    away, refuses the query, or has no data. Wait: the bake lasts until there is data. Hold: so too,
    and ActionRequired is set. Fail: the targets return to the generation before, with outcome
    RolloutFailed: the request retry.g<number> may roll it out again. Default Wait."""


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
