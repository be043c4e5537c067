"""The collect stage deletes exactly the listed folders, or nothing."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from springtide_api.contract import CollectInput, RunFile, Unreferenced
from springtide_trainer.errors import Refused
from springtide_trainer.stages.collect import collect
from springtide_trainer.storage import LOCAL_RUNS, commit_content, folder_name, warm_up_file

if TYPE_CHECKING:
    from springtide_trainer.storage import Home


def asked(home: Home, *delete: str) -> RunFile:
    return RunFile.model_construct(
        job="ranker-collect-1", collect=CollectInput(delete=list(delete))
    )


def folder(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "model.safetensors").write_bytes(b"weights")
    return path


def test_only_the_listed_folders_are_deleted_and_missing_ones_are_ignored(home: Home) -> None:
    gone = folder(home.path / "artifacts/sha256-aa")
    kept = folder(home.path / "artifacts/sha256-bb")
    steps = folder(home.path / "checkpoints/g3")
    collect(asked(home, str(gone), steps.as_uri(), str(home.path / "data/sha256-cc")), home)
    assert not gone.exists()
    assert not steps.exists()
    assert kept.exists()
    assert list((home.path / "tmp").iterdir()) == []


@pytest.mark.survives(
    "Data",
    "../ and foreign paths where weights are to be deleted",
    "refused with the path; nothing is deleted",
)
@pytest.mark.parametrize(
    "path",
    [
        "/etc",
        "{home}",
        "{home}/artifacts",
        "{home}/results/job.json",
        "{home}/artifacts/../../other",
        "{home}/artifacts/../results",
        "{home}x/artifacts/sha256-aa",
        "artifacts/sha256-aa",
        "file://host/artifacts/sha256-aa",
        "",
    ],
)
def test_a_path_outside_the_allowed_folders_is_refused_and_nothing_is_deleted(
    home: Home, path: str
) -> None:
    kept = folder(home.path / "artifacts/sha256-aa")
    with pytest.raises(Refused):
        collect(asked(home, str(kept), path.format(home=home.path)), home)
    assert kept.exists()


@pytest.mark.survives(
    "Data",
    "a symlink out of the storage where weights are to be deleted",
    "refused with its path; nothing is deleted",
)
def test_no_link_is_followed(home: Home, tmp_path: Path) -> None:
    precious = folder(tmp_path / "precious/sha256-aa")
    (home.path / "artifacts").mkdir()
    (home.path / "artifacts/sha256-aa").symlink_to(precious)
    (home.path / "data").symlink_to(tmp_path / "precious")
    for path in ("artifacts/sha256-aa", "data/sha256-aa"):
        with pytest.raises(Refused, match="has a link in its path"):
            collect(asked(home, str(home.path / path)), home)
    inside = folder(home.path / "reports/job")
    (inside / "link").symlink_to(precious)
    collect(asked(home, str(inside)), home)
    assert not inside.exists()
    assert (precious / "model.safetensors").exists()


KEPT, LEFT, OTHER = (f"sha256:{letter * 64}" for letter in "abc")
NOW = datetime(2026, 11, 20, tzinfo=UTC)


def searched(home: Home, *kept: str) -> RunFile:
    asked = Unreferenced(kept=list(kept), since=NOW - timedelta(days=9), until=NOW)
    return RunFile.model_construct(
        job="ranker-collect-1", collect=CollectInput(delete=[], unreferenced=asked)
    )


def written(home: Home, place: str, digest: str, days: float = 2.0) -> Path:
    made = folder(home.path / place / folder_name(digest))
    moment = (NOW - timedelta(days=days)).timestamp()
    os.utime(made, (moment, moment))
    return made


def test_folders_that_nothing_names_are_deleted_and_those_that_are_kept_new_or_old_are_not(
    home: Home,
) -> None:
    gone = [written(home, place, LEFT) for place in ("artifacts", "buffers")]
    stay = [
        *(written(home, place, KEPT) for place in ("artifacts", "buffers", "data")),
        written(home, "artifacts", OTHER, days=-0.5),
        written(home, "buffers", OTHER, days=9.5),
        written(home, "data", LEFT),
        written(home, "checkpoints", LEFT),
        written(home, "artifacts", "by-hand"),
    ]
    collect(searched(home, KEPT), home)
    assert not [each for each in gone if each.exists()]
    assert all(each.exists() for each in stay)
    assert list((home.path / "tmp").iterdir()) == []


def test_content_that_is_committed_again_is_new(home: Home, tmp_path: Path) -> None:
    made = written(home, "buffers", LEFT)
    assert not commit_content(folder(tmp_path / "again"), made)
    collect(searched(home), home)
    assert made.exists()


@pytest.mark.survives(
    "Data",
    "a training commits a buffer that nothing named at the moment in which it is collected",
    "it stays, or is committed again",
)
def test_content_that_is_committed_while_it_is_collected_stays(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = written(home, "buffers", LEFT)
    rename = Path.rename

    def after_a_commit(path: Path, target: Path) -> Path:
        if path == made:
            monkeypatch.setattr(Path, "rename", rename)
            assert not commit_content(folder(tmp_path / "again"), made)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", after_a_commit)
    collect(searched(home), home)
    assert (made / "model.safetensors").exists()

    def collected(path: Path, *_: object) -> None:
        monkeypatch.setattr(os, "utime", utime)
        collect(searched(home), home)
        raise FileNotFoundError(path)

    utime = os.utime
    moment = (NOW - timedelta(days=2)).timestamp()
    os.utime(made, (moment, moment))
    monkeypatch.setattr(os, "utime", collected)
    assert commit_content(folder(tmp_path / "third"), made)
    assert (made / "model.safetensors").exists()


def test_nothing_is_searched_for_where_runs_without_a_cluster_have_generations(home: Home) -> None:
    made = written(home, "artifacts", LEFT)
    (home.path / LOCAL_RUNS).write_text("{}")
    collect(searched(home), home)
    assert made.exists()


def test_links_are_left_alone(home: Home, tmp_path: Path) -> None:
    precious = folder(tmp_path / "precious")
    (home.path / "artifacts").mkdir()
    (home.path / "artifacts" / folder_name(LEFT)).symlink_to(precious)
    (home.path / "buffers").symlink_to(tmp_path)
    collect(searched(home), home)
    assert (home.path / "artifacts" / folder_name(LEFT)).is_symlink()
    assert precious.exists()


def test_the_warm_up_queries_of_a_model_are_deleted_with_it_and_others_are_kept(
    home: Home,
) -> None:
    listed, unused = folder(home.path / "artifacts/sha256-aa"), written(home, "artifacts", LEFT)
    kept = written(home, "artifacts", KEPT)
    by_hand = home.path / "artifacts/sha256-bb"  # its folder was deleted by hand
    for each in (listed, unused, kept, by_hand):
        warm_up_file(each).write_text("{}")

    collect(asked(home, str(listed), str(by_hand)), home)
    assert not warm_up_file(listed).exists()
    assert not warm_up_file(by_hand).exists()
    assert warm_up_file(unused).exists()

    collect(searched(home, KEPT), home)
    assert not warm_up_file(unused).exists()
    assert warm_up_file(kept).exists()
    assert kept.exists()
