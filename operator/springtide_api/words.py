"""The words that statuses hold, as this version knows them. In the schema they are open strings.

A later version may write others. An operator leaves a generation alone whose word it does not know:
it neither judges nor rolls it out, and does not call its update invalid.
"""

from __future__ import annotations

VERDICTS = frozenset({"Pending", "Imported", "Accepted", "Rejected", "Inconclusive", "Failed"})
"""Of a generation: what the gate said."""

OUTCOMES = frozenset(
    {"", "Live", "Superseded", "RolledBack", "Rejected", "Inconclusive", "Failed", "Retired"}
)
"""Of a generation: what became of it; empty while that is open."""

GENERATION_PHASES = frozenset(
    {
        "Pending",
        "Importing",
        "Imported",
        "Training",
        "Evaluating",
        "Accepted",
        "RollingOut",
        "RollingBack",
        "RolledBack",
        "Promoted",
        "Retired",
        "Rejected",
        "Inconclusive",
        "Failed",
    }
)

HOLDOUT_OUTCOMES = frozenset({"", "Decided", "Inconclusive", "Suspect", "TooFewEntities"})
"""Of one holdout; empty: not judged yet."""


def listed(words: frozenset[str]) -> str:
    """Name the words in a sentence."""
    return ", ".join(sorted(words - {""}))
