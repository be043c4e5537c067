"""What a run shows on a terminal and in a pipe."""

from __future__ import annotations

import io
import math

import pytest
import rich.console

from springtide_trainer.local.display import PlainDisplay, TerminalDisplay
from springtide_trainer.progress import Progress

HEADER = ("rule", "metric", "candidate", "baseline", "delta", "interval", "required", "verdict")
ROW = ("as-good", "auc", "0.7", "0.6", "+0.1", "0.0500 to 0.1500", "delta > -0.01", "Pass")


def terminal(width: int) -> tuple[TerminalDisplay, io.StringIO]:
    out = io.StringIO()
    console = rich.console.Console(width=width, file=out, force_terminal=True, highlight=False)
    return TerminalDisplay(console), out


def take_steps(clock: list[float], moments: list[float], loss: float) -> None:
    """Report as many steps of a run as there are moments, from inside a stage."""
    progress = Progress(None, first=0, total=len(moments))
    for number, moment in enumerate(moments, 1):
        clock[0] = moment
        progress.observe(number, loss)


def test_a_pipe_gets_the_first_step_the_last_and_one_in_five_seconds():
    out, clock = io.StringIO(), [0.0]
    shown = PlainDisplay(out, lambda: clock[0])

    with shown.stage("train"):
        take_steps(clock, [3.0, 4.0, 9.0, 10.0], 0.5)
    shown.done("train", "g1")

    assert out.getvalue().splitlines() == [
        "train: started",
        "train: step 1 of 4, 25 %, loss 0.5000",
        "train: step 3 of 4, 75 %, loss 0.5000, 0:03 left",
        "train: step 4 of 4, 100 %, loss 0.5000",
        "train: g1",
    ]


def test_rows_without_a_loss_are_counted_as_rows():
    out = io.StringIO()

    with PlainDisplay(out).stage("evaluate"):
        take_steps([0.0], [1.0], math.nan)

    assert "evaluate: row 1 of 1, 100 %\n" in out.getvalue()


def test_nothing_is_shown_after_the_stage():
    out = io.StringIO()
    with PlainDisplay(out).stage("train"):
        pass

    take_steps([0.0], [1.0], 0.5)

    assert out.getvalue() == "train: started\n"


def test_a_terminal_gets_a_bar_with_step_loss_and_remaining_time():
    shown, out = terminal(120)

    with shown.stage("train"):
        take_steps([0.0], [1.0, 2.0, 3.0], 0.25)
    shown.done("train", "g1 [3 steps]")

    assert "step 3/3  loss 0.2500" in out.getvalue()
    assert "\u2713" in out.getvalue()
    assert "train    g1 [3 steps]" in out.getvalue()


@pytest.mark.parametrize(("width", "fits"), [(80, False), (120, True)])
def test_a_narrow_terminal_leaves_out_the_column_before_the_verdict(width, fits):
    shown, out = terminal(width)

    shown.table(HEADER, [ROW])

    assert ("required" in out.getvalue()) is fits
    assert "0.0500 to 0.1500" in out.getvalue()
    assert max(map(len, out.getvalue().splitlines())) < 3 * width
