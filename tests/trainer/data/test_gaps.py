"""A missing partition is waited for until maxGap, then reported by name."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from springtide_trainer.stages.probe import MAX_GAPS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from springtide_api.contract import ProbeOutput

    Look = Callable[..., ProbeOutput]
    Deliver = Callable[..., Path]

TREE = {"path": "month=%Y-%m"}
SOON, LATE = "2026-05-02T00:00:00Z", "2026-06-01T00:00:00Z"
"""Less and more than 72 hours after April was due."""

PATIENT = {"maxGap": "8760h"}


@pytest.fixture
def deliver(tmp_path: Path, clicks: Callable[..., Any], write_csv: Deliver) -> Deliver:
    """Deliver months of 2026 as folders."""

    def deliver(months: Iterable[int]) -> Path:
        for month in months:
            write_csv(tmp_path / "tree" / f"month=2026-{month:02}" / "a.csv", clicks(month))
        return tmp_path / "tree"

    return deliver


def window(found: ProbeOutput) -> tuple[list[str], list[str]]:
    assert found.window is not None, found.message
    return found.window.partitions, found.window.holdout_partitions


@pytest.mark.survives(
    "Data",
    "a partition is due and missing, and later ones exist",
    "the window ends before it until maxGap is over; then it is reported and quarantined by name",
)
def test_a_missing_partition_blocks_later_ones_until_max_gap_is_over(
    run_probe: Look, deliver: Deliver
) -> None:
    tree = deliver([1, 2, 3, 5])
    early = run_probe(tree, partition=TREE, now=SOON)
    assert window(early) == (["2026-01", "2026-02"], ["2026-03"])
    assert early.gaps == []

    late = run_probe(tree, partition=TREE, now=LATE)
    assert window(late) == (["2026-01", "2026-02", "2026-03"], ["2026-05"])
    assert late.gaps == ["2026-04"]
    assert "not delivered within data.window.maxGap: 2026-04" in late.message


def test_the_message_has_the_due_time_and_the_end_of_the_wait(
    run_probe: Look, deliver: Deliver
) -> None:
    cursor = {"cursor": "2026-04-01T00:00:00Z"}
    found = run_probe(deliver([3, 5]), partition=TREE, now=SOON, probe=cursor)
    assert (found.reason, found.window, found.gaps) == ("NotComplete", None, [])
    assert found.message.startswith(
        "0 of 2 complete partitions; 2026-04 was due at 2026-05-01T00:00:00+00:00 and was not "
        "delivered; later partitions wait until 2026-05-04T00:00:00+00:00 (data.window.maxGap)"
    )


@pytest.mark.parametrize(("gap", "known"), [("24h", ["2026-04"]), ("1440h", [])])
def test_max_gap_is_the_length_of_the_wait(
    run_probe: Look, deliver: Deliver, gap: str, known: list[str]
) -> None:
    found = run_probe(
        deliver([3, 5]), partition=TREE, now="2026-05-03T00:00:00Z", window={"maxGap": gap}
    )
    assert found.gaps == known


def test_the_window_equals_that_of_a_probe_with_the_gap_in_quarantine(
    run_probe: Look, deliver: Deliver
) -> None:
    tree = deliver([1, 2, 3, 5])
    first = run_probe(tree, partition=TREE, now=LATE)
    second = run_probe(tree, partition=TREE, now=LATE, probe={"quarantined": ["2026-04"]})
    assert second.gaps == []
    assert first.window.digest == second.window.digest


def test_a_gap_between_cursor_and_first_partition_is_reported(
    run_probe: Look, deliver: Deliver
) -> None:
    tree = deliver([3, 4])
    assert run_probe(tree, partition=TREE, now=LATE).gaps == []
    found = run_probe(tree, partition=TREE, now=LATE, probe={"cursor": "2026-02-01T00:00:00Z"})
    assert found.gaps == ["2026-02"]


def test_a_partition_after_the_newest_delivered_one_is_not_a_gap(
    run_probe: Look, deliver: Deliver
) -> None:
    assert run_probe(deliver([1, 2]), partition=TREE, now=LATE).gaps == []


def test_a_gap_is_also_reported_for_a_pending_candidate(run_probe: Look, deliver: Deliver) -> None:
    waiting = {"candidateTrainedThrough": "2026-03-01T00:00:00Z"}
    found = run_probe(deliver([1, 2, 3, 5]), partition=TREE, now=LATE, probe=waiting)
    assert found.window.holdout_partitions == ["2026-03", "2026-05"]
    assert found.gaps == ["2026-04"]


def test_an_empty_folder_counts_as_delivered(run_probe: Look, deliver: Deliver) -> None:
    tree = deliver([1, 2, 3, 5])
    (tree / "month=2026-04").mkdir()
    found = run_probe(tree, partition=TREE, now=LATE, window=PATIENT)
    assert found.gaps == []
    assert window(found) == (["2026-01", "2026-02", "2026-03"], ["2026-05"])


def test_a_missing_partition_in_quarantine_is_not_a_gap(run_probe: Look, deliver: Deliver) -> None:
    tree, known = deliver([1, 2, 3, 5]), {"quarantined": ["2026-04"]}
    found = run_probe(tree, partition=TREE, now=LATE, window=PATIENT, probe=known)
    assert found.gaps == []
    assert window(found)[1] == ["2026-05"]


def test_a_partition_released_before_its_delivery_is_reported_again(
    run_probe: Look, deliver: Deliver
) -> None:
    tree, released = deliver([1, 2, 3, 5]), {"released": ["2026-04"]}
    assert run_probe(tree, partition=TREE, now=SOON, probe=released).gaps == []
    assert run_probe(tree, partition=TREE, now=LATE, probe=released).gaps == ["2026-04"]
    deliver([4, 6])
    found = run_probe(tree, partition=TREE, now="2026-07-01T00:00:00Z", probe=released)
    assert found.gaps == []
    assert "2026-04" in window(found)[0]


def test_a_source_partitioned_by_timestamps_has_no_gaps(
    run_probe: Look, clicks: Callable[..., Any], write_csv: Deliver, tmp_path: Path
) -> None:
    found = run_probe(write_csv(tmp_path / "a.csv", clicks(1, 2, 5)), now=LATE)
    assert found.gaps == []
    assert window(found)[1] == ["2026-05"]


def test_many_gaps_are_reported_in_parts_and_partitions_after_them_wait(
    run_probe: Look, clicks: Callable[..., Any], write_csv: Deliver, tmp_path: Path
) -> None:
    rows = clicks(1, 3, a_month=1)
    for row in rows:
        write_csv(tmp_path / "tree" / row["at"][:10] / "a.csv", [row])
    found = run_probe(
        tmp_path / "tree",
        partition={"path": "%Y-%m-%d", "period": "Day"},
        now="2026-06-01T00:00:00Z",
    )
    assert len(found.gaps) == MAX_GAPS
    assert (found.gaps[0], found.window) == ("2026-01-02", None)
    shutil.rmtree(tmp_path / "tree")
