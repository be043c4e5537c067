"""What the comparison of two generations by live traffic has seen, as facts of a status."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from springtide_api.schema import Decimal, Digest, Model, Name, Time, Word


class Requests(Model):
    """Requests of one side."""

    bad: Annotated[int, Field(ge=0)] = 0
    """Bad requests."""
    total: Annotated[int, Field(ge=0)] = 0
    """All requests, the bad ones included."""


class Comparison(Model):
    """What a ratio metric has shown in one phase; the next sample continues from it."""

    metric: Name
    """Name of the metric."""
    phase: Word = "Canary"
    """Canary: the canary was compared with the live generation, since its first step. Bake: the
    promoted generation was compared with the previous one, by rollout.bake.holdback."""
    definition: Digest
    """Digest of its selectors, its maxRegression and the name of the generation that it is compared
    with. After a change of one of them the comparison starts again."""
    since: Time
    """From when on the newest requests count: status.rollout.weightSeenAt, in a bake
    holdbackSeenAt."""
    watched: Requests = Requests()
    """Requests of this generation since then."""
    baseline: Requests = Requests()
    """Requests of the generation that it is compared with since then."""
    watched_before: Requests = Requests()
    """Requests of this generation earlier in the phase, as in earlier steps."""
    baseline_before: Requests = Requests()
    """Requests of the other generation earlier in the phase."""
    evidence: Annotated[list[Decimal], Field(max_length=8)] = []
    """For each bet of the test, the logarithm of what it has made of its stake."""
