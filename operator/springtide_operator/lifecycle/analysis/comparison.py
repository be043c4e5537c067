"""Bad requests of a generation, compared with those of another one sample by sample.

What the test has seen is a fact of the status, written together with its sample: the next sample
continues from it, whichever operator takes it, so that a restart looks at no request twice.

The steps of a canary and a bake with holdback have a test each. That of the bake is a new one, with
a stake of 1 and requests since its share was seen: what the first one lost while nothing was wrong
would have to be won back before a regression under the full load shows. Whatever made the first one
stop, the second one reaches 20 with probability 5 % at most where there is no regression (Ville's
inequality, given all that was seen before). So of equal generations at most 5 % are removed in the
steps, and at most 5 % of those that are promoted are rolled back in the bake: 9.75 % in all. Steps,
a share that is lost and given again, a retry and a pin interrupt a test and never restart it, since
each start has its own 5 %.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from springtide_api.generation.comparison import Comparison, Requests
from springtide_judging.two_binomials import ERROR, REGRESSIONS, Counts, Evidence, look
from springtide_operator.lifecycle.analysis.watched import IN_STEPS

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_api.objects import ModelGeneration
    from springtide_api.update.analysis import Metric, Ratio
    from springtide_operator.lifecycle.analysis.watched import Watched

BOUND = round(1 / ERROR)
"""The e-value from which on the watched generation is worse."""


def comparison_of(about: Watched, metric: Metric) -> Comparison | None:
    """What a ratio metric has shown as it is declared now; None: nothing."""
    if metric.ratio is None or about.baseline is None:
        return None
    definition = _definition(metric.ratio, about.baseline.generation)
    wanted = metric.name, about.baseline.phase, definition
    known = about.generation.status.rollout.comparisons
    return next((c for c in known if (c.metric, c.phase, c.definition) == wanted), None)


def has_ended(about: Watched, metric: Metric) -> bool:
    """Whether the test of a metric has found the generation worse: it looks no further."""
    known = comparison_of(about, metric)
    return known is not None and evidence(known).regressed()


def requests_of_step(about: Watched, metric: Metric) -> int:
    """How many requests of the canary a ratio metric has counted in this step."""
    known = comparison_of(about, metric)
    return known.watched.total if known and known.since == about.began else 0


def continued(
    about: Watched, metric: Metric, watched: Counts, baseline: Counts, *, since: datetime
) -> Comparison:
    """Add what was counted in this step, or in the bake, so far.

    Counts that fell add nothing until they are above what they were.
    """
    assert metric.ratio is not None
    assert about.baseline is not None
    before = comparison_of(about, metric) or Comparison(
        metric=metric.name,
        phase=about.baseline.phase,
        definition=_definition(metric.ratio, about.baseline.generation),
        since=since,
    )
    if before.since != since:
        before = _next_step(before, since)
    allowed = float(metric.ratio.max_regression)
    after = look(evidence(before), watched, baseline, max_regression=allowed)
    return before.model_copy(
        update={
            "watched": _requests(after.canary),
            "baseline": _requests(after.stable),
            "evidence": [f"{each:.9f}" for each in after.wealth],
        }
    )


def evidence(known: Comparison) -> Evidence:
    """The state of the test; requests of the baseline in earlier steps tell its rate."""
    wealth = tuple(float(each) for each in known.evidence) or Evidence().wealth
    watched, baseline = _counts(known.watched), _counts(known.baseline)
    return Evidence(watched, baseline, earlier=_counts(known.baseline_before), wealth=wealth)


def in_all_steps(known: Comparison) -> tuple[Requests, Requests]:
    """Requests of the watched generation and of its baseline in the whole phase."""
    watched = _sum(known.watched_before, known.watched)
    return watched, _sum(known.baseline_before, known.baseline)


def share(requests: Requests) -> float:
    """The share of bad requests."""
    return requests.bad / requests.total if requests.total else 0.0


def regression(about: Watched, known: Comparison, metric: Metric) -> str:
    """What the test has found, with its numbers."""
    assert metric.ratio is not None
    watched, baseline = in_all_steps(known)
    what = "the canary" if known.phase == IN_STEPS else about.generation.metadata.name
    other = about.baseline.generation.metadata.name if about.baseline else ""
    return (
        f"metric {metric.name}: {watched.bad:,} of {watched.total:,} requests of {what} are bad "
        f"({share(watched):.2%}), and {baseline.bad:,} of {baseline.total:,} of {other} "
        f"({share(baseline):.2%}); maxRegression {metric.ratio.max_regression}, e-value "
        f"{evidence(known).e_value:.3g}, bound {BOUND} (rollout.analysis)"
    )


def _next_step(before: Comparison, since: datetime) -> Comparison:
    watched, baseline = in_all_steps(before)
    return before.model_copy(
        update={
            "since": since,
            "watched": Requests(),
            "baseline": Requests(),
            "watched_before": watched,
            "baseline_before": baseline,
        }
    )


def _definition(ratio: Ratio, baseline: ModelGeneration) -> str:
    """Digest of all that the evidence depends on."""
    parts = [ratio.bad, ratio.total, ratio.max_regression, baseline.metadata.name, *REGRESSIONS]
    return "sha256:" + hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _counts(requests: Requests) -> Counts:
    return Counts(requests.bad, requests.total)


def _requests(counts: Counts) -> Requests:
    return Requests(bad=counts.bad, total=counts.total)


def _sum(one: Requests, other: Requests) -> Requests:
    return Requests(bad=one.bad + other.bad, total=one.total + other.total)
