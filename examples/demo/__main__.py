"""`make demo`: a recommendation model is kept fresh on a real Kubernetes, in about five minutes.

    python examples/demo [--data FILE_OR_FOLDER] [--plot FILE] [--context CONTEXT]

Without --context it runs on the local cluster of this machine, which keeps running afterwards.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "tests")]

from demo import cluster, monthly, own_data, plot, report, scoring, steps  # noqa: E402
from demo.example import NAMESPACE, Example  # noqa: E402
from demo.kubectl import DemoError  # noqa: E402
from local_cluster import node  # noqa: E402
from rich.console import Console  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)


def main() -> None:
    """Run the demo; exit code 1 and one sentence where it fails."""
    options = _parser().parse_args()
    started = time.monotonic()
    try:
        own = own_data.months(options.data) if options.data else None
        example = _installed(options.context)
        scores, title = _own(example, own) if own else _steps(example)
        _summary(example, scores, title, options.plot)
    except (DemoError, RuntimeError, OSError) as error:
        console.print(f"[red]demo:[/] {error}", soft_wrap=True)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        console.print(
            "demo: interrupted; the cluster is still running, `make demo-down` deletes it"
        )
        raise SystemExit(130) from None
    _next_commands(example, time.monotonic() - started)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, help="CSV of ts, customer, query, item, label")
    parser.add_argument("--plot", type=Path, default=cluster.WORK / "auc.svg", help="SVG to write")
    parser.add_argument("--context", help="of the kubeconfig: an existing cluster")
    return parser


def _installed(context: str | None) -> Example:
    started = time.monotonic()
    with _progress("the cluster") as progress:
        if context:
            where = cluster.existing(context)
        else:
            where = cluster.local(node.from_environment(), progress)
        progress("the chart is installed")
        cluster.install(where)
    console.print(
        f"Kubernetes runs and the chart is installed ({time.monotonic() - started:.0f} s)."
    )
    return Example(where)


def _steps(example: Example) -> tuple[list[scoring.MonthScore], str]:
    started = time.monotonic()

    def title(text: str) -> None:
        nonlocal started
        started = time.monotonic()
        console.print(f"\n[bold]{text}[/]")

    def result(text: str) -> None:
        console.print(f"  {text} ({time.monotonic() - started:.0f} s)", soft_wrap=True)

    with _progress("the example") as progress:
        steps.run(example, steps.Output(title, progress, result))
        progress("generations are scored on each month for the plot")
        with tempfile.TemporaryDirectory() as folder:
            rows = {month: steps.month_rows(month)[: scoring.ROWS] for month in scoring.SERVED}
            scorers = scoring.Scorers(example, Path(folder))
            scores = scoring.by_month(scorers, scoring.SERVED, rows)
    return scores, f"AUC of the served model in each month ({scoring.ROWS} rows)"


def _own(
    example: Example, data: dict[str, list[tuple[str, ...]]]
) -> tuple[list[scoring.MonthScore], str]:
    months = []
    console.print(f"{len(data)} months of {sum(map(len, data.values()))} rows, one at a time.")
    with _progress("the example") as progress:
        for one in monthly.keep_fresh(example, data, progress):
            months.append(one)
            progress(f"{one.month}: {one.verdict}")
    console.print(report.monthly(months))
    scores = [
        scoring.MonthScore(one.month, one.served_generation, one.served, one.never_updated)
        for one in months
        if one.served is not None and one.served_generation is not None
    ]
    return scores, "AUC of the served model in each month of your data"


def _summary(
    example: Example, scores: Sequence[scoring.MonthScore], title: str, file: Path
) -> None:
    console.print(f"\n[bold]$ kubectl -n {NAMESPACE} get iu,mg[/]")
    console.print(example.show("get", "iu,mg"), soft_wrap=True, markup=False)
    console.print(report.requests(example.totals()), soft_wrap=True, markup=False)
    if scores:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(plot.svg(scores, title))
        console.print(f"{plot.description(scores)}.\nPlot: {file}", soft_wrap=True, markup=False)


@contextmanager
def _progress(first: str) -> Iterator[Callable[[str], None]]:
    """Show on a terminal what is waited for; elsewhere only results are printed."""
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status(first) as status:
        yield status.update


def _next_commands(example: Example, seconds: float) -> None:
    kubectl = " ".join(example.kubectl.argv)
    console.print(
        f"\nThe demo took {seconds:.0f} s. The cluster keeps running; `make demo-down` deletes it. "
        "Look around:",
        soft_wrap=True,
    )
    for command in ("describe iu recommender", "describe mg recommender-g1", "get events"):
        console.print(f"  {kubectl} -n {NAMESPACE} {command}", soft_wrap=True, markup=False)


if __name__ == "__main__":
    main()
