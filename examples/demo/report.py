"""What is printed at the end: tables of what the operator wrote down, and the shopper's count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from demo.monthly import Judged

OURS = {"IncrementalUpdate", "ModelGeneration"}


def numbers(generations: Iterable[dict[str, Any]]) -> Table:
    """Return generations x metric: each rule's numbers as the operator judged them."""
    table = Table("generation", "rule", "metric", "candidate", "live", "decided by", "verdict")
    for generation in generations:
        status = generation.get("status", {})
        for result in status.get("evaluation", {}).get("results", []):
            table.add_row(
                generation["metadata"]["name"],
                result["rule"],
                f"{result.get('metric')} on {result.get('dataset')}",
                _short(result.get("candidate")),
                _short(result.get("baseline")),
                f"{result.get('bound', '')} in [{_short(result.get('low'))},"
                f" {_short(result.get('high'))}]",
                result["verdict"],
            )
        table.add_section()
    return table


def events(items: Iterable[dict[str, Any]]) -> Table:
    """Return the operator's own events, in their order."""
    table = Table("time", "about", "reason", "message")
    ours = [item for item in items if item["involvedObject"]["kind"] in OURS]
    for item in sorted(ours, key=lambda item: item["lastTimestamp"]):
        moment = item["lastTimestamp"].partition("T")[2].rstrip("Z")
        table.add_row(moment, item["involvedObject"]["name"], item["reason"], item["message"])
    return table


def times(seconds: dict[str, float]) -> Table:
    """Return the time of each step."""
    table = Table("step", "seconds")
    for step, spent in seconds.items():
        table.add_row(step, f"{spent:.0f}")
    table.add_row("together", f"{sum(seconds.values()):.0f}")
    return table


def shopper(totals: dict[str, Any]) -> str:
    """Say how the shopper fared."""
    by_generation = ", ".join(
        f"{count} by generation {name}" for name, count in sorted(totals["generations"].items())
    )
    said = f"{totals['sent']} requests at 20 a second, {totals['failed']} failed ({by_generation})"
    if totals["p50"] is not None:
        said += f"; {1000 * totals['p50']:.0f} ms median, {1000 * totals['p99']:.0f} ms p99"
    return "\n".join([said, *totals["failures"]])


def monthly(months: Iterable[Judged]) -> Table:
    """Return what each month judged, beside the first generation left as it was."""
    table = Table(
        "month",
        "generation",
        "verdict",
        "rows trained",
        "AUC candidate",
        "AUC served",
        "AUC generation 1",
        "seconds",
        "answered",
    )
    for one in months:
        table.add_row(
            one.month,
            str(one.generation),
            " ".join(part for part in (one.verdict, one.reason) if part),
            str(one.rows),
            *(_short(value) for value in (one.candidate, one.served, one.never)),
            f"{one.seconds:.0f}",
            one.answer,
        )
    return table


def _short(value: str | float | None) -> str:
    return "-" if value is None else f"{float(value):.3f}"
