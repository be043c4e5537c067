"""What the demo prints and draws, from recorded numbers."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence

import pytest
from demo import plot, report, scoring, steps
from demo.scoring import MonthScore, by_month

SVG = "{http://www.w3.org/2000/svg}"
SCORES = [
    MonthScore("2026-03", 1, 0.742, 0.742),
    MonthScore("2026-04", 2, 0.771, 0.701),
    MonthScore("2026-05", 2, 0.748, 0.655),
    MonthScore("2026-06", 3, 0.779, 0.602),
]


def drawn(scores: Sequence[MonthScore]) -> ElementTree.Element:
    return ElementTree.fromstring(plot.svg(scores, "AUC & more"))


def points(picture: ElementTree.Element, name: str) -> list[tuple[float, float]]:
    (line,) = [one for one in picture.iter(f"{SVG}polyline") if one.get("class") == f"line {name}"]
    return [tuple(map(float, point.split(","))) for point in line.get("points").split()]


def test_the_plot_has_one_point_a_month_and_the_better_model_is_above() -> None:
    picture = drawn(SCORES)

    served, never = points(picture, "served"), points(picture, "never")

    assert [x for x, _ in served] == [x for x, _ in never] == sorted(x for x, _ in served)
    assert served[0] == never[0]
    assert all(high[1] < low[1] for high, low in zip(served[1:], never[1:], strict=True))


def test_the_plot_names_months_generations_and_the_last_numbers() -> None:
    words = {one.text for one in drawn(SCORES).iter(f"{SVG}text")}

    assert {"2026-03", "2026-06", "g1", "g2", "g3", "AUC & more"} <= words
    assert {"0.78 with updates", "0.60 without"} <= words


def test_the_plot_follows_the_color_scheme_of_the_page() -> None:
    assert "@media (prefers-color-scheme: dark)" in plot.svg(SCORES, "AUC")


@pytest.mark.parametrize("never", [0.5, 0.601, 0.6, 0.599, 0.9])
def test_the_two_labels_never_overlap(never: float) -> None:
    picture = drawn([MonthScore("2026-03", 1, 0.6, never)])

    fills = ("served-fill", "never-fill")
    texts = [one for one in picture.iter(f"{SVG}text") if one.get("class") in fills]
    first, second = (float(one.get("y")) for one in texts)
    assert abs(first - second) >= plot.LABEL_DISTANCE


def test_every_point_is_inside_the_frame_even_below_chance() -> None:
    picture = drawn([MonthScore("2026-03", 1, 0.97, 0.31), MonthScore("2026-04", 2, 1.0, 0.5)])

    heights = [y for name in ("served", "never") for _, y in points(picture, name)]
    assert min(heights) >= plot.TOP
    assert max(heights) <= plot.HEIGHT - plot.BOTTOM


class RecordedScorers:
    """Returns recorded numbers and counts how often each generation is scored."""

    def __init__(self, values: Mapping[tuple[int, str], float]) -> None:
        self.values, self.calls = values, []

    def auc(self, number: int, rows: Sequence[str]) -> float:
        self.calls.append((number, rows[0]))
        return self.values[number, rows[0]]


def test_each_month_is_scored_by_its_live_generation_and_by_the_first() -> None:
    recorded = {(1, "march"): 0.7, (1, "april"): 0.6, (2, "april"): 0.8}
    scorers = RecordedScorers(recorded)

    scores = by_month(
        scorers, {"2026-03": 1, "2026-04": 2}, {"2026-03": ["march"], "2026-04": ["april"]}
    )

    assert scores == [MonthScore("2026-03", 1, 0.7, 0.7), MonthScore("2026-04", 2, 0.8, 0.6)]
    assert len(scorers.calls) == 3


def test_the_months_of_the_plot_are_those_after_the_first_evaluation() -> None:
    rows = {month: steps.month_rows(month) for month in scoring.SERVED}

    assert list(rows) == ["2026-03", "2026-04", "2026-05", "2026-06"]
    assert all(len(each) >= scoring.ROWS for each in rows.values())


def test_the_requests_are_reported_in_one_line_and_failures_below_it() -> None:
    totals = {"sent": 5412, "failed": 0, "p50": 0.0213, "p99": 0.0871, "failures": []}
    good = "5,412 requests at 20 a second, 0 failed; median 21 ms, 99th percentile 87 ms"

    assert report.requests(totals) == good
    failed = {**totals, "failed": 1, "failures": ["10:00:00 503: b''"]}
    assert report.requests(failed).splitlines()[1:] == ["10:00:00 503: b''"]
