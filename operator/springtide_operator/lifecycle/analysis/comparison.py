"""Bad requests of a canary, compared with those of the live generation sample by sample.

What the test has seen is a fact of the status, written together with its sample: the next sample
continues from it, whichever operator takes it, so that a restart looks at no request twice.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from springtide_api.generation.comparison import Comparison, Requests
from springtide_judging.two_binomials import ERROR, REGRESSIONS, Counts, Evidence, look

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_api.objects import ModelGeneration
    from springtide_api.update.analysis import Metric, Ratio
    from springtide_operator.lifecycle.analysis.watched import Watched

BOUND = round(1 / ERROR)
"""The e-value from which on the canary is worse."""


def comparison_of(about: Watched, metric: Metric) -> Comparison | None:
    """What a ratio metric has shown as it is declared now; None: nothing."""
    if metric.ratio is None or about.live is None:
        return None
    wanted = metric.name, _definition(metric.ratio, about.live)
    known = about.generation.status.rollout.comparisons
    return next((each for each in known if (each.metric, each.definition) == wanted), None)


def has_ended(about: Watched, metric: Metric) -> bool:
    """Whether the test of a metric has found the canary worse: it looks no further."""
    known = comparison_of(about, metric)
    return known is not None and evidence(known).regressed()


def requests_of_step(about: Watched, metric: Metric) -> int:
    """How many requests of the canary a ratio metric has counted in this step."""
    known = comparison_of(about, metric)
    return known.canary.total if known and known.since == about.began else 0


def continued(
    about: Watched, metric: Metric, canary: Counts, live: Counts, *, since: datetime
) -> Comparison:
    """Add what was counted in this step so far.

    Counts that fell add nothing until they are above what they were.
    """
    assert metric.ratio is not None
    assert about.live is not None
    definition = _definition(metric.ratio, about.live)
    before = comparison_of(about, metric) or Comparison(
        metric=metric.name, definition=definition, since=since
    )
    if before.since != since:
        before = _next_step(before, since)
    after = look(evidence(before), canary, live, max_regression=float(metric.ratio.max_regression))
    return before.model_copy(
        update={
            "canary": _requests(after.canary),
            "live": _requests(after.stable),
            "evidence": [f"{each:.9f}" for each in after.wealth],
        }
    )


def evidence(known: Comparison) -> Evidence:
    """The state of the test; requests of the live generation in earlier steps tell its rate."""
    wealth = tuple(float(each) for each in known.evidence) or Evidence().wealth
    canary, live = _counts(known.canary), _counts(known.live)
    return Evidence(canary, live, earlier=_counts(known.live_before), wealth=wealth)


def in_all_steps(known: Comparison) -> tuple[Requests, Requests]:
    """Requests of the canary and of the live generation since the first step."""
    return _sum(known.canary_before, known.canary), _sum(known.live_before, known.live)


def share(requests: Requests) -> float:
    """The share of bad requests."""
    return requests.bad / requests.total if requests.total else 0.0


def regression(known: Comparison, metric: Metric, live: str) -> str:
    """What the test has found, with its numbers."""
    assert metric.ratio is not None
    canary, stable = in_all_steps(known)
    return (
        f"metric {metric.name}: {canary.bad:,} of {canary.total:,} requests of the canary are bad "
        f"({share(canary):.2%}), and {stable.bad:,} of {stable.total:,} of {live} "
        f"({share(stable):.2%}); maxRegression {metric.ratio.max_regression}, e-value "
        f"{evidence(known).e_value:.3g}, bound {BOUND} (rollout.analysis)"
    )


def _next_step(before: Comparison, since: datetime) -> Comparison:
    canary, live = in_all_steps(before)
    return before.model_copy(
        update={
            "since": since,
            "canary": Requests(),
            "live": Requests(),
            "canary_before": canary,
            "live_before": live,
        }
    )


def _definition(ratio: Ratio, live: ModelGeneration) -> str:
    """Digest of all that the evidence depends on."""
    parts = [ratio.bad, ratio.total, ratio.max_regression, live.metadata.name, *REGRESSIONS]
    return "sha256:" + hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _counts(requests: Requests) -> Counts:
    return Counts(requests.bad, requests.total)


def _requests(counts: Counts) -> Requests:
    return Requests(bad=counts.bad, total=counts.total)


def _sum(one: Requests, other: Requests) -> Requests:
    return Requests(bad=one.bad + other.bad, total=one.total + other.total)
