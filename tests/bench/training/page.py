"""Makes docs/benchmarks.md from tests/bench/results: `python -m bench.training.page`.

Needs no package but the standard library, so a test compares the page with the results.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

from bench.adaptation import page as adaptation
from bench.gpu import page as gpu
from bench.methods import page as methods
from bench.retention import sections as retention

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "tests" / "bench" / "results"
PAGE = "docs/benchmarks.md"
ORDER = ("full", "frozen", "lora", "scoring", "batch_assembly")
"""The benchmarks, in the order of the page."""
POD_START = "pod_start"
MOST_SECONDS = 12.0
"""Of the start of a training pod to its first step, on 2 cores."""

HEAD = """# Benchmarks

How fast this trainer is compared with what a team would use instead. Generated from the files in
`tests/bench/results` by `make bench-training WRITE=1`; no figure is written by hand.
"""

METHOD = """## How it is measured

- All sides of a benchmark run in one process, one after the other on the same rows, in rounds. The
  order is reversed in every second round. A first round, which loads libraries, does not count.
- The number of a round is the seed of its rows and of its trainings. All sides of a round start
  from the same weights, and have the same batch size, learning rate and number of epochs.
- Seconds are processor seconds of all threads of the process. Rows are made up, of 44 tokens on
  average, and at most 128; the label depends on which of two kinds of words a text has more of.
- A ratio is computed for each round; the table has the median, and the lowest and highest. The AUC
  is measured after each training, on rows that are the same in all rounds.
- A target is met if each round reaches it and the other number, such as the AUC, is not lower than
  that of the other side by more than the tolerance, as a mean over the rounds.
- Compare ratios, not rates: another processor, or a busy one, changes both sides.

To repeat it, on an idle machine:

<!-- example: takes most of an hour -->
```sh
make bench-training           # prints the ratios
make bench-training WRITE=1   # also writes the results and this page
```
"""

ELSEWHERE = """## Targets that this page does not show

- 10 million rows: at most 1.5 GiB of anonymous memory in each stage
  (`tests/bench/ten_million_rows.py` asserts it).
"""


@dataclass(frozen=True)
class Compared:
    """Two sides of one benchmark: one row of the first table."""

    plain: dict[str, Any]
    ours: list[dict[str, Any]]
    other: list[dict[str, Any]]
    quality: dict[str, Any]
    bf16: bool
    """Whether the processor computes in BF16."""

    @property
    def least(self) -> float | None:
        """The ratio to reach on this processor."""
        return (self.bf16 and self.plain["least_bf16"]) or self.plain["least"]

    @property
    def ratios(self) -> list[float]:
        """Our rate divided by the other's, for each round."""
        return [
            _rate(ours) / _rate(other) for ours, other in zip(self.ours, self.other, strict=True)
        ]

    @property
    def differences(self) -> list[float]:
        """Our quality minus the other's, for each round."""
        pairs = zip(self.ours, self.other, strict=True)
        return [ours["quality"] - other["quality"] for ours, other in pairs]

    @property
    def missed(self) -> list[str]:
        """Return what is missed, in words."""
        least, found = self.least or 0.0, []
        reached = sum(ratio >= least for ratio in self.ratios)
        if reached < len(self.ratios):
            found.append(f"ratio reached in {reached} of {len(self.ratios)} rounds")
        if fmean(self.differences) < -self.quality["tolerance"]:
            found.append(f"{self.quality['name']} lower by more than {self.quality['tolerance']:g}")
        return found

    def row(self) -> str:
        """Return the row of the table."""
        result = "no target" if self.least is None else "met"
        cells = [
            self.plain["what"],
            self.plain["other"],
            _rates(self.ours),
            _rates(self.other),
            _spread(self.ratios, "{:.2f}"),
            self._target(),
            f"{self.quality['name']}: {_difference(self.differences)}",
            "**missed**" if self.missed else result,
        ]
        return f"| {' | '.join(cells)} |"

    def _target(self) -> str:
        if self.plain["least_bf16"]:
            return f"{self.plain['least_bf16']:g} with BF16, {self.plain['least']:g} without"
        return f"{self.least:g}" if self.least else ""


def page(folder: Path = RESULTS) -> str:
    """Return the page as Markdown."""
    files = [folder / f"{name}.json" for name in ORDER]
    results = [json.loads(file.read_text("utf-8")) for file in files if file.exists()]
    without = [file.stem for file in files if not file.exists()]
    missing = f"Not measured yet: {', '.join(without)}.\n\n" if without else ""
    more = [gpu.sections(folder), retention.sections(folder), methods.sections(folder)]
    more.append(adaptation.sections(folder))
    sections = "\n".join(filter(None, [*map(_section, results), *more]))
    first = f"{HEAD}\n{summary(results)}\n\n{missing}{table(results)}"
    start = folder / f"{POD_START}.json"
    if start.exists():
        sections += f"\n{pod_start(json.loads(start.read_text('utf-8')))}\n"
    return f"{first}\n\n{METHOD}\n{ELSEWHERE}\n{sections}"


def pod_start(result: dict[str, Any]) -> str:
    """Return how long a training pod takes to its first step, and where the time goes."""
    rounds = result["rounds"]
    lines = [
        f"## {result['title']}",
        "",
        _machine(result["machine"]),
        "Processes of the stage `train`, on rows that are not tokenized yet; bytecode is compiled, "
        "as in the image, and files are in the page cache. Pulling the image and scheduling the "
        "pod do not count.",
        "",
        "| part | seconds (lowest to highest) | CPU seconds (lowest to highest) |",
        "|---|---|---|",
    ]
    begin = {"seconds": 0.0, "cpu_seconds": 0.0}
    for number, part in enumerate(rounds[0]):
        cells = [part["part"]]
        for unit in begin:
            taken = [
                marks[number][unit] - (marks[number - 1] if number else begin)[unit]
                for marks in rounds
            ]
            cells.append(_spread(taken, "{:.1f}"))
        lines.append(f"| {' | '.join(cells)} |")
    whole = [[marks[-1][unit] for marks in rounds] for unit in begin]
    result_ = "met" if max(whole[0]) <= MOST_SECONDS else "**missed**"
    total = " | ".join(_spread(each, "{:.1f}") for each in whole)
    lines += [f"| together (target: {MOST_SECONDS:g} s, {result_}) | {total} |", ""]
    return "\n".join(lines)


def summary(results: list[dict[str, Any]]) -> str:
    """Say how many targets are met, and name those that are missed."""
    wanted = [each for result in results for each in comparisons(result) if each.least]
    missed = [
        f"{each.plain['what']} against {each.plain['other']} ({', '.join(each.missed)})"
        for each in wanted
        if each.missed
    ]
    met = f"{len(wanted) - len(missed)} of {len(wanted)} targets are met."
    return f"{met} Missed: {'; '.join(missed)}." if missed else met


def table(results: list[dict[str, Any]]) -> str:
    """Return a row for each comparison."""
    lines = [
        "| what | compared with | Springtide: rows per CPU-second | the other | ratio (lowest to "
        "highest) | target | Springtide minus the other (lowest to highest) | result |",
        "|---|---|---|---|---|---|---|---|",
        *(each.row() for result in results for each in comparisons(result)),
    ]
    return "\n".join(lines)


def comparisons(result: dict[str, Any]) -> list[Compared]:
    """Return the compared sides of a benchmark, their rounds in order."""
    bf16 = any(result["machine"]["instructions"].values())
    return [
        Compared(
            plain,
            _of(result, plain["ours"]),
            _of(result, plain["other"]),
            quality=result["quality"],
            bf16=bf16,
        )
        for plain in result["comparisons"]
    ]


def _section(result: dict[str, Any]) -> str:
    """Return what a benchmark does, on which machine, and what its sides reached."""
    name = result["quality"]["name"]
    lines = [f"## {result['title']}", "", _setting(result), ""]
    lines += [f"| side | rows per CPU-second | {name} | what it does |", "|---|---|---|---|"]
    for side, about in result["sides"].items():
        measured = _of(result, side)
        values = ", ".join(_quality(each["quality"]) for each in measured)
        lines.append(f"| {side} | {_rates(measured)} | {values} | {about} |")
    return "\n".join([*lines, ""])


def _setting(result: dict[str, Any]) -> str:
    rounds = [each["round"] for each in result["measured"]]
    sizes = ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in result["sizes"].items())
    return _machine(result["machine"], f"rows {sizes}; seeds {min(rounds)} to {max(rounds)}; ")


def _machine(machine: dict[str, Any], what: str = "") -> str:
    """Return the date of a measurement, what was measured, and what it depends on."""
    able = [f"{'with' if has else 'without'} {n}" for n, has in machine["instructions"].items()]
    packages = ", ".join(f"{name} {number}" for name, number in machine["packages"].items())
    return (
        f"{machine['date']}: {what}threads {machine['threads']}, cores {machine['cores']} "
        f"({machine['processor']}, {', '.join(able)}); Python {machine['python']}, {packages}."
    )


def _of(result: dict[str, Any], side: str) -> list[dict[str, Any]]:
    measured = [each for each in result["measured"] if each["side"] == side]
    return sorted(measured, key=lambda each: int(each["round"]))


def _rate(measured: dict[str, Any]) -> float:
    return float(measured["rows"] / measured["cpu_seconds"])


def _rates(measured: list[dict[str, Any]]) -> str:
    rates = [_rate(each) for each in measured]
    return _spread(rates, "{:,.0f}" if min(rates) >= 1000 else "{:.1f}")


def _spread(values: list[float], form: str) -> str:
    middle, low, high = (form.format(each) for each in (median(values), min(values), max(values)))
    return f"{middle} ({low} to {high})"


def _difference(values: list[float]) -> str:
    if not any(values):
        return "0"
    form = "{:+.4f}" if max(map(abs, values)) > 1e-4 else "{:+.1e}"
    mean, low, high = (form.format(each) for each in (fmean(values), min(values), max(values)))
    return f"{mean} ({low} to {high})"


def _quality(value: float) -> str:
    return f"{value:.4f}" if value > 1e-4 else f"{value:.0e}" if value else "0"


def main() -> None:
    """Write the page into the checkout."""
    (ROOT / PAGE).write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
