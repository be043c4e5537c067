"""The shares of the requests over time as an SVG for light and dark pages."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from demo.traffic.shares import FAILED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from demo.traffic.shares import Column

WIDTH, PLOT_HEIGHT = 720, 200
LEFT, RIGHT, TOP, BOTTOM = 56, 24, 72, 66
LINE = 18
"""Pixels of a line of the legend."""
LIGHT = ("#6e7781", "#0969da", "#bc4c00", "#1a7f37", "#cf222e", "#8250df")
DARK = ("#8b949e", "#4493f8", "#db6d28", "#3fb950", "#f85149", "#ab7df8")
"""By the number of the generation."""
OWN_BAND = 0.25
"""Share of the height from which on a label fits into the area."""
TICK_SECONDS = 60
STYLE = """
  svg { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; }
  .page { fill: #ffffff; } .text { fill: #59636e; }
  .title { fill: #1f2328; font-size: 16px; font-weight: 600; }
  .in { fill: #ffffff; font-weight: 600; } .mark { stroke: #1f2328; stroke-dasharray: 2 3; }
  .failed { fill: #000000; }
  LIGHT
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117; } .text { fill: #9198a1; }
    .title { fill: #f0f6fc; } .in { fill: #0d1117; } .mark { stroke: #f0f6fc; }
    .failed { fill: #ffffff; }
    DARK
  }
"""


def svg(found: Sequence[Column], marks: Mapping[str, float], title: str) -> str:
    """Return the picture of at least two columns.

    Args:
        found: the columns, of equal time.
        marks: when something began, in seconds since 1970, by its description.
        title: what is shown.
    """
    seconds = found[1].at - found[0].at
    height = TOP + PLOT_HEIGHT + BOTTOM + LINE * len(marks)

    def x(at: float) -> float:
        return LEFT + (at - found[0].at) * (WIDTH - LEFT - RIGHT) / (seconds * len(found))

    shown = sorted({number for column in found for number in column.counts}, key=_height)
    numbers = [number for number in shown if number != FAILED]
    desc = f"Generations {', '.join(map(str, numbers))} answered; see the columns of the demo"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            f'width="{WIDTH}" height="{height}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<desc>{escape(desc)}</desc>",
            f"<style>{_style(numbers)}</style>",
            f'<rect class="page" width="{WIDTH}" height="{height}" rx="6"/>',
            _text(LEFT - 36, 30, title, css="title"),
            *(_area(found, number, x, seconds) for number in shown),
            *_axes(x, found[0].at, seconds * len(found)),
            *(_label(found, number, x, seconds) for number in numbers),
            *_marks(marks, x),
            "</svg>",
            "",
        ]
    )


def _height(number: int) -> tuple[bool, int]:
    """Return the place of a generation in a column: failures are on top."""
    return number == FAILED, number


def _band(column: Column, number: int) -> tuple[float, float]:
    """Return where a generation's share begins and ends, from 0 to 1."""
    if not column.total:
        return 0.0, 0.0
    below = sum(n for other, n in column.counts.items() if _height(other) < _height(number))
    own = column.counts.get(number, 0)
    return below / column.total, (below + own) / column.total


def _y(share: float) -> float:
    return TOP + (1 - share) * PLOT_HEIGHT


def _area(found: Sequence[Column], number: int, x: Callable[[float], float], seconds: float) -> str:
    rectangles = []
    for column in found:
        low, high = _band(column, number)
        if high > low:
            left, right = x(column.at), x(column.at + seconds)
            rectangles.append(f"M{left:.1f} {_y(high):.1f}H{right:.1f}V{_y(low):.1f}H{left:.1f}Z")
    css = "failed" if number == FAILED else f"g{number}"
    return f'<path class="{css}" shape-rendering="crispEdges" d="{"".join(rectangles)}"/>'


def _label(
    found: Sequence[Column], number: int, x: Callable[[float], float], seconds: float
) -> str:
    """Write the name into the longest time of the generation, or above its largest share."""
    wide = [_band(column, number)[1] - _band(column, number)[0] >= OWN_BAND for column in found]
    if any(wide):
        begin, end = _longest(wide)
        low, high = _band(found[(begin + end) // 2], number)
        middle = (x(found[begin].at) + x(found[end].at + seconds)) / 2
        return _text(middle, _y((low + high) / 2) + 5, f"g{number}", css="in", anchor="middle")
    column = max(found, key=lambda one: _band(one, number)[1] - _band(one, number)[0])
    return _text(x(column.at), TOP - 6, f"g{number}", css=f"g{number}", anchor="middle")


def _longest(flags: Sequence[bool]) -> tuple[int, int]:
    """Return first and last place of the longest run of true flags."""
    best, begin = (0, -1), 0
    for place, flag in enumerate(flags):
        if not flag:
            begin = place + 1
        elif place - begin > best[1] - best[0]:
            best = (begin, place)
    return best


def _axes(x: Callable[[float], float], begin: float, seconds: float) -> list[str]:
    rows = [
        _text(LEFT - 8, _y(share) + 4, f"{100 * share:.0f} %", anchor="end")
        for share in (0, 0.5, 1)
    ]
    below = TOP + PLOT_HEIGHT
    minutes = [
        _text(x(begin + after), below + 38, f"{after // 60} min", anchor="middle")
        for after in range(0, int(seconds) + 1, TICK_SECONDS)
    ]
    return [*rows, *minutes]


def _marks(marks: Mapping[str, float], x: Callable[[float], float]) -> list[str]:
    drawn = []
    below = TOP + PLOT_HEIGHT
    for place, (name, at) in enumerate(marks.items()):
        letter = chr(ord("A") + place)
        drawn += [
            f'<line class="mark" x1="{x(at):.1f}" x2="{x(at):.1f}" y1="{TOP}" y2="{below + 6}"/>',
            _text(x(at), below + 19, letter, css="title", anchor="middle"),
            _text(LEFT, below + BOTTOM + LINE * place, f"{letter}  {name}"),
        ]
    return drawn


def _style(numbers: Sequence[int]) -> str:
    def fills(colors: Sequence[str]) -> str:
        return " ".join(f".g{n} {{ fill: {colors[n % len(colors)]}; }}" for n in numbers)

    return STYLE.replace("LIGHT", fills(LIGHT)).replace("DARK", fills(DARK))


def _text(x: float, y: float, text: str, *, css: str = "text", anchor: str = "start") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text class="{css}" {place}>{escape(text)}</text>'
