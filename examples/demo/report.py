"""What the demo prints at its end: the load generator's counts and, for own data, each month."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from demo.monthly import Evaluated


def requests(totals: dict[str, Any]) -> str:
    """Return the counts of the load generator in one line, and a line for each failure."""
    text = f"{totals['sent']:,} requests at 20 a second, {totals['failed']:,} failed"
    if totals["p50"] is not None:
        p50, p99 = (f"{1000 * totals[name]:.0f} ms" for name in ("p50", "p99"))
        text += f"; median {p50}, 99th percentile {p99}"
    return "\n".join([text, *totals["failures"]])


def monthly(months: Iterable[Evaluated]) -> Table:
    """Return what each month showed, with the first generation as it was beside it."""
    table = Table(
        "month",
        "generation",
        "verdict",
        "rows trained",
        "AUC candidate",
        "AUC served",
        "AUC generation 1",
        "seconds",
        "requested",
    )
    for one in months:
        table.add_row(
            one.month,
            str(one.generation),
            " ".join(part for part in (one.verdict, one.reason) if part),
            str(one.rows),
            *(_short(value) for value in (one.candidate, one.served, one.never_updated)),
            f"{one.seconds:.0f}",
            one.requested,
        )
    return table


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
