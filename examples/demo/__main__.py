"""`make demo`: a recommendation model is kept fresh on a real Kubernetes, in about ten minutes.

    python examples/demo [--data FILE_OR_FOLDER] [--plot FILE] [--context CONTEXT]

Without --context it runs on the local cluster of this machine, which keeps running afterwards.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "tests")]

from demo import cluster, monthly, own_data, plot, report, scoring, steps  # noqa: E402
from demo.example import NAMESPACE, Example  # noqa: E402
from demo.kubectl import DemoError  # noqa: E402
from demo.traffic import picture, setting, shares  # noqa: E402
from demo.traffic.scenes import SHOWN, scenes  # noqa: E402
from local_cluster import node  # noqa: E402
from rich.console import Console  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from demo.traffic.setting import Traffic

MARGIN = 8
"""Characters beside the columns of the plot."""
MOST_COLUMNS = 100
FINE_SECONDS = 4
"""Time of a column of the picture."""
BEFORE = 8
"""Seconds before the first scene with traffic."""
console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)


def main() -> None:
    """Run the demo; exit code 1 and one sentence where it fails."""
    options = _parser().parse_args()
    started = time.monotonic()
    try:
        own = own_data.months(options.data) if options.data else None
        with ExitStack() as stack:
            example, traffic = _installed(options.context, stack, watched=not own)
            scores, title = _own(example, own) if own else _steps(example, traffic, options.shares)
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
    parser.add_argument(
        "--shares", type=Path, default=cluster.WORK / "shares.svg", help="SVG of the requests"
    )
    parser.add_argument("--context", help="of the kubeconfig: an existing cluster")
    return parser


def _installed(
    context: str | None, stack: ExitStack, *, watched: bool
) -> tuple[Example, Traffic | None]:
    """Return the example in a cluster where the chart is installed, and what watches its traffic.

    Args:
        context: of the kubeconfig; None: the local cluster.
        stack: ends what runs for the time of the demo.
        watched: whether there is a canary at all.
    """
    started = time.monotonic()
    traffic = None
    with _progress("the cluster") as progress:
        if context:
            where = cluster.existing(context)
            traffic = setting.existing(where.kubectl) if watched else None
        else:
            here = node.from_environment()
            where = cluster.local(here, progress)
            progress("the gateway and Prometheus start")
            traffic = stack.enter_context(setting.local(here)) if watched else None
        progress("the chart is installed")
        cluster.install(where)
        if traffic:
            cluster.allow_prometheus(where, traffic.prometheus_host)
    console.print(
        f"Kubernetes runs and the chart is installed ({time.monotonic() - started:.0f} s)."
    )
    if watched and not traffic:
        console.print(setting.ABSENT, soft_wrap=True)
    return Example(where), traffic


def _steps(
    example: Example, traffic: Traffic | None, file: Path
) -> tuple[list[scoring.MonthScore], str]:
    started = time.monotonic()

    def title(text: str) -> None:
        nonlocal started
        started = time.monotonic()
        console.print(f"\n[bold]{text}[/]")

    def result(text: str) -> None:
        console.print(f"  {text} ({time.monotonic() - started:.0f} s)", soft_wrap=True)

    with _progress("the example") as progress:
        output = steps.Output(title, progress, result)
        seen = steps.run(example, output, scenes(traffic), traffic=traffic)
        progress("generations are scored on each month for the plot")
        with tempfile.TemporaryDirectory() as folder:
            rows = {month: steps.month_rows(month)[: scoring.ROWS] for month in scoring.SERVED}
            scorers = scoring.Scorers(example, Path(folder))
            scores = scoring.by_month(scorers, scoring.SERVED, rows)
    _shares(seen, file)
    return scores, f"AUC of the served model in each month ({scoring.ROWS} rows)"


def _shares(seen: steps.DemoRun, file: Path) -> None:
    """Print which generation answered in the scenes with traffic, and draw it."""
    marks = {name: seen.began[title] for title, name in SHOWN.items() if title in seen.began}
    if seen.pinned_until is None:
        return
    since, until = min(marks.values()) - BEFORE, seen.pinned_until
    most = min(console.width - MARGIN, MOST_COLUMNS)
    wide = shares.PERIOD * math.ceil((until - since) / most / shares.PERIOD)
    coarse, fine = (
        shares.columns(seen.totals["timeline"], since=since, until=until, seconds=seconds)
        for seconds in (wide, FINE_SECONDS)
    )
    console.print()
    console.print(shares.plot(coarse, marks), soft_wrap=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(picture.svg(fine, marks, "Generation that answered, in % of the requests"))
    console.print(f"Plot: {file}", soft_wrap=True, markup=False)


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
