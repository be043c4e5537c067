"""Groups that a ranker cannot be trained on are refused by the probe, before a GPU is requested."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from springtide_api.contract import RunFile
from springtide_trainer.data.snapshots.guardrail import read_guardrail
from springtide_trainer.errors import Refused
from springtide_trainer.stages.probe import probe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from springtide_trainer.storage import Home

    Clicks = Callable[..., list[dict[str, Any]]]
    Write = Callable[..., Path]

COLUMNS = {"group": "list", "entity": "list"}


@pytest.fixture
def ranking_run(run_of: Callable[..., RunFile]) -> Callable[..., RunFile]:
    """Return the run file of a probe of a ranker; keywords are its options or `columns`."""

    def of(path: Path, columns: dict[str, str] | None = None, **options: Any) -> RunFile:
        plain = run_of(path, columns=columns or COLUMNS).model_dump(
            mode="json", by_alias=True, exclude_none=True
        )
        model = plain["recipe"]["model"]
        del model["labels"]
        model |= {"task": "Ranking", "ranking": {"gains": {"0": "0", "1": "1"}, **options}}
        return RunFile.model_validate(plain)

    return of


def probed(run: RunFile, home: Home) -> Any:
    with home.tmp(run.job, "pod") as tmp:
        return probe(run, home, tmp)


def refused(run: RunFile, home: Home) -> tuple[str, str, str]:
    with pytest.raises(Refused) as caught:
        probed(run, home)
    assert not (home.path / "data").exists()
    return caught.value.failure.reason, caught.value.failure.field, caught.value.failure.message


def test_each_list_is_one_entity_and_relevant_rows_are_the_positives(
    ranking_run: Callable[..., RunFile],
    clicks: Clicks,
    write_csv: Write,
    home: Home,
    tmp_path: Path,
) -> None:
    path = write_csv(tmp_path / "a.csv", clicks(1, 2))
    window = probed(ranking_run(path), home).window
    assert (window.rows, window.holdout_rows) == (10, 10)
    assert (window.holdout_entities, window.holdout_positives) == (5, 5)


def test_a_group_with_rows_of_two_entities_is_refused_with_its_name(
    ranking_run: Callable[..., RunFile],
    clicks: Clicks,
    write_csv: Write,
    home: Home,
    tmp_path: Path,
) -> None:
    rows = clicks(1, 2)
    rows = [{**row, "shopper": row["list"]} for row in rows]
    rows[2]["shopper"] = "other"
    path = write_csv(tmp_path / "a.csv", rows)
    run = ranking_run(path, {"group": "list", "entity": "shopper"})
    assert refused(run, home) == (
        "GroupOfSeveralEntities",
        "data.source.columns.entity",
        "1 of 10 groups of the window have rows of more than one entity, such as group 'l1-1'; "
        "for task Ranking a group must have one entity: correct the column, or remove "
        "data.source.columns.entity (then each group is its own entity)",
    )


def test_a_training_group_larger_than_a_pass_is_refused_and_a_holdout_group_is_not(
    ranking_run: Callable[..., RunFile],
    clicks: Clicks,
    write_csv: Write,
    home: Home,
    tmp_path: Path,
) -> None:
    rows = clicks(1, 2)
    large = [{**row, "list": "all"} if row["list"] in {"l1-1", "l1-2"} else row for row in rows]
    path = write_csv(tmp_path / "a.csv", large)
    assert refused(ranking_run(path, maxGroupRows=3), home) == (
        "GroupTooLarge",
        "spec.model.ranking.maxGroupRows",
        "1 of 4 training groups have more than 3 rows; the largest, 'all', has 4. A group is "
        "never split over forward passes: keep fewer rows of it, or raise "
        "model.ranking.maxGroupRows, which needs more memory",
    )
    assert probed(ranking_run(path, maxGroupRows=4), home).window.rows == 10

    large = [{**row, "list": "all"} if row["list"] in {"l2-1", "l2-2"} else row for row in rows]
    path = write_csv(tmp_path / "b.csv", large)
    assert probed(ranking_run(path, maxGroupRows=3), home).window.holdout_rows == 10


def test_a_guardrail_with_a_group_of_two_entities_is_refused(
    ranking_run: Callable[..., RunFile], clicks: Clicks, write_csv: Write, tmp_path: Path
) -> None:
    path = write_csv(tmp_path / "musts.csv", clicks(1))
    recipe = ranking_run(path, {"group": "list", "entity": "shopper"}).recipe
    with pytest.raises(Refused, match="5 of 5 groups of dataset 'musts' have rows of more than"):
        read_guardrail(recipe, path.as_uri(), "musts")
    assert len(read_guardrail(ranking_run(path).recipe, path.as_uri(), "musts")) == 10


def test_training_rows_of_one_gain_start_no_run(
    ranking_run: Callable[..., RunFile],
    clicks: Clicks,
    write_csv: Write,
    home: Home,
    tmp_path: Path,
) -> None:
    rows = [{**row, "clicked": "0"} for row in clicks(1)] + clicks(2)
    found = probed(ranking_run(write_csv(tmp_path / "a.csv", rows)), home)
    assert (found.reason, found.window) == ("NotEnoughData", None)
    assert found.message.startswith("all 10 training rows have gain 0, at least 2 gains are needed")
