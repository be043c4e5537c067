"""Values of status fields that this version knows. In the schema they are open strings.

A later version may write others. The operator leaves a generation with an unknown value alone: it
neither evaluates nor rolls it out, and its update stays valid.
"""

from __future__ import annotations

VERDICTS = frozenset({"Pending", "Imported", "Accepted", "Rejected", "Inconclusive", "Failed"})
"""Values of the verdict of a generation."""

OUTCOMES = frozenset(
    {
        "",
        "Live",
        "Superseded",
        "RolledBack",
        "RolloutFailed",
        "Rejected",
        "Inconclusive",
        "Failed",
        "Retired",
    }
)
"""Values of the outcome of a generation; empty while it is undecided."""

GENERATION_PHASES = frozenset(
    {
        "Pending",
        "Importing",
        "Imported",
        "Training",
        "Evaluating",
        "Accepted",
        "AwaitingApproval",
        "RollingOut",
        "RollingBack",
        "RolledBack",
        "RolloutFailed",
        "Promoted",
        "Retired",
        "Rejected",
        "Inconclusive",
        "Failed",
    }
)

HOLDOUT_OUTCOMES = frozenset({"", "Decided", "Inconclusive", "Suspect", "TooFewEntities"})
"""Values of the outcome of a holdout; empty while it was not evaluated."""
