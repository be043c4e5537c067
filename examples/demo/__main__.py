"""`make demo`: the life of a recommendation model on a real Kubernetes, in about five minutes.

    python examples/demo [--data FILE_OR_FOLDER] [--context CONTEXT]

Without --context it happens on the local cluster of this machine, which stays up afterwards.
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "tests")]

from demo import cluster, monthly, own_data, report, steps  # noqa: E402
from demo.example import NAMESPACE, Example  # noqa: E402
from demo.kubectl import DemoError  # noqa: E402
from local_cluster import node  # noqa: E402
from rich.console import Console  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)


def main() -> None:
    """Run the demo; exit code 1 and one sentence where it fails."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, help="CSV of ts, customer, query, item, label")
    parser.add_argument("--context", help="of the kubeconfig: a cluster that is there already")
    options = parser.parse_args()
    begun = time.monotonic()
    try:
        own = own_data.months(options.data) if options.data else None
        example = _scene(options.context)
        _own(example, own) if own else _life(example)
    except (DemoError, RuntimeError, OSError) as trouble:
        console.print(f"[red]demo:[/] {trouble}", soft_wrap=True)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        console.print("demo: stopped; the cluster is still up, `make demo-down` removes it")
        raise SystemExit(130) from None
    console.print(f"\nThe whole demo took {time.monotonic() - begun:.0f} s.")
    _commands(example)


def _scene(context: str | None) -> Example:
    with _status("the cluster") as say:
        where = (
            cluster.existing(context) if context else cluster.local(node.from_environment(), say)
        )
        say("the chart is installed")
        cluster.install(where)
    console.print("Kubernetes is up and the chart is installed.")
    return Example(where)


def _life(example: Example) -> None:
    with _status("the shop") as say:
        heading = lambda title: console.print(f"\n[bold]{title}[/]")  # noqa: E731
        seen = steps.run(example, steps.Output(heading, say))
    console.print("\n[bold]What the shuffled month looked like: suspect, so nothing was judged[/]")
    console.print(report.numbers([seen.doubted]))
    console.print("[bold]Every generation and its numbers[/]")
    console.print(report.numbers(seen.generations.values()))
    _printed(example)
    console.print(report.times(seen.seconds))
    console.print(report.shopper(seen.totals), soft_wrap=True)


def _own(example: Example, data: dict[str, list[tuple[str, ...]]]) -> None:
    judged = []
    console.print(f"{len(data)} months of {sum(map(len, data.values()))} rows, one at a time.")
    with _status("the shop") as say:
        for one in monthly.keep_fresh(example, data, say):
            judged.append(one)
            console.print(report.monthly(judged[-1:]))
    _printed(example)
    console.print("[bold]Month by month[/]")
    console.print(report.monthly(judged))
    console.print(report.shopper(example.totals()), soft_wrap=True)


def _printed(example: Example) -> None:
    console.print(f"\n[bold]kubectl -n {NAMESPACE} get iu,mg[/]")
    console.print(example.show("get", "iu,mg"), soft_wrap=True, markup=False)
    console.print(f"[bold]kubectl -n {NAMESPACE} get events[/], those of the operator")
    console.print(report.events(example.events()))


@contextmanager
def _status(first: str) -> Iterator[Callable[[str], None]]:
    """Show what is waited for: in place on a terminal, else a line at each change."""
    begun = time.monotonic()
    if not console.is_terminal:
        yield lambda text: console.print(f"  {time.monotonic() - begun:5.0f} s  {text}")
        return
    with console.status(first) as status:
        yield status.update


def _commands(example: Example) -> None:
    kubectl = " ".join(example.kubectl.argv)
    console.print("The cluster stays up (`make demo-down` removes it). Try:", markup=False)
    for command in (
        "get iu recommender --output wide --watch",
        "describe mg recommender-g3",
        "annotate --overwrite iu recommender springtide.dev/request=release@me",
    ):
        console.print(f"  {kubectl} -n {NAMESPACE} {command}", soft_wrap=True, markup=False)


if __name__ == "__main__":
    main()
