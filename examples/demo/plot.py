"""The demo's plot: AUC in each month with and without updates, an SVG for light and dark pages."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from demo.scoring import MonthScore

WIDTH, HEIGHT = 720, 360
LEFT, RIGHT, TOP, BOTTOM = 56, 168, 72, 44
STEP = 0.1
LABEL_DISTANCE = 18
"""Pixels between the two labels at the right, at least."""
STYLE = """
  svg { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; }
  .page { fill: #ffffff; } .grid { stroke: #d8dee4; } .text { fill: #59636e; }
  .title { fill: #1f2328; font-size: 16px; font-weight: 600; }
  .label { fill: #59636e; stroke: #ffffff; stroke-width: 4; paint-order: stroke; }
  .line { fill: none; stroke-width: 2.5; stroke-linejoin: round; }
  .served { stroke: #0969da; } .never { stroke: #bc4c00; stroke-dasharray: 6 4; }
  .served-fill { fill: #0969da; } .never-fill { fill: #bc4c00; }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117; } .grid { stroke: #30363d; } .text { fill: #9198a1; }
    .title { fill: #f0f6fc; } .label { fill: #9198a1; stroke: #0d1117; }
    .served { stroke: #4493f8; } .never { stroke: #db6d28; }
    .served-fill { fill: #4493f8; } .never-fill { fill: #db6d28; }
  }
"""


def svg(scores: Sequence[MonthScore], title: str) -> str:
    """Return the plot of at least one month.

    Args:
        scores: AUC by month, in order.
        title: what was measured.
    """
    values = [value for one in scores for value in (one.served, one.never_updated)]
    low = min(5, int(min(values) / STEP)) * STEP
    high = min(1.0, (int(max(values) / STEP) + 1) * STEP)

    def x(place: int) -> float:
        return LEFT + place * (WIDTH - LEFT - RIGHT) / max(1, len(scores) - 1)

    def y(value: float) -> float:
        return TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM)

    served = [(x(place), y(one.served)) for place, one in enumerate(scores)]
    never = [(x(place), y(one.never_updated)) for place, one in enumerate(scores)]
    last = scores[-1]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
            f'width="{WIDTH}" height="{HEIGHT}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<desc>{escape(description(scores))}</desc>",
            f"<style>{STYLE}</style>",
            f'<rect class="page" width="{WIDTH}" height="{HEIGHT}" rx="6"/>',
            _text(LEFT - 36, 30, title, css="title"),
            _text(LEFT - 36, 50, "higher is better; 0.5 is chance"),
            *_axes(scores, x, y, low=low, high=high),
            _line(never, "never"),
            _line(served, "served"),
            *(
                _text(px, py - 10, f"g{one.generation}", css="label", anchor="middle")
                for (px, py), one in zip(served, scores, strict=True)
            ),
            *_labels(served[-1], never[-1], last),
            "</svg>",
            "",
        ]
    )


def description(scores: Sequence[MonthScore]) -> str:
    """Return the last month's numbers in a sentence."""
    last = scores[-1]
    return (
        f"AUC in {last.month}: {last.served:.3f} with updates (generation {last.generation}), "
        f"{last.never_updated:.3f} if generation 1 had never been updated"
    )


def _axes(
    scores: Sequence[MonthScore],
    x: Callable[[int], float],
    y: Callable[[float], float],
    *,
    low: float,
    high: float,
) -> list[str]:
    ticks = [low + STEP * n for n in range(round((high - low) / STEP) + 1)]
    rows = [
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(one):.1f}" y2="{y(one):.1f}"/>'
        + _text(LEFT - 10, y(one) + 4, f"{one:.1f}", anchor="end")
        for one in ticks
    ]
    months = [
        _text(x(place), HEIGHT - BOTTOM + 24, one.month, anchor="middle")
        for place, one in enumerate(scores)
    ]
    return [*rows, *months]


def _line(points: Sequence[tuple[float, float]], name: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(
        f'<circle class="{name}-fill" cx="{x:.1f}" cy="{y:.1f}" r="4"/>' for x, y in points
    )
    return f'<polyline class="line {name}" points="{path}"/>{dots}'


def _labels(served: tuple[float, float], never: tuple[float, float], last: MonthScore) -> list[str]:
    middle = (served[1] + never[1]) / 2
    apart = max(abs(served[1] - never[1]), LABEL_DISTANCE) / 2
    sign = 1 if never[1] >= served[1] else -1
    x = served[0] + 12
    return [
        _text(x, middle - sign * apart + 4, f"{last.served:.2f} with updates", css="served-fill"),
        _text(x, middle + sign * apart + 4, f"{last.never_updated:.2f} without", css="never-fill"),
    ]


def _text(x: float, y: float, text: str, *, css: str = "text", anchor: str = "start") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text class="{css}" {place}>{escape(text)}</text>'
