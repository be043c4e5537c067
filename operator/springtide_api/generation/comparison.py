"""What the comparison of a canary with the live generation has seen, as facts of a status."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from springtide_api.schema import Decimal, Digest, Model, Name, Time


class Requests(Model):
    """Requests of one side."""

    bad: Annotated[int, Field(ge=0)] = 0
    """Bad requests."""
    total: Annotated[int, Field(ge=0)] = 0
    """All requests, the bad ones included."""


class Comparison(Model):
    """What a ratio metric has shown since the first step; the next sample continues from it."""

    metric: Name
    """Name of the metric."""
    definition: Digest
    """Digest of its selectors, its maxRegression and the name of the live generation. After a
    change of one of them the comparison starts again."""
    since: Time
    """From when on the requests of this step count: status.rollout.weightSeenAt."""
    canary: Requests = Requests()
    """Requests of the canary in this step."""
    live: Requests = Requests()
    """Requests of the live generation in this step."""
    canary_before: Requests = Requests()
    """Requests of the canary in earlier steps."""
    live_before: Requests = Requests()
    """Requests of the live generation in earlier steps."""
    evidence: Annotated[list[Decimal], Field(max_length=8)] = []
    """For each bet of the test, the logarithm of what it has made of its stake."""
