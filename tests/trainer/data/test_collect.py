"""The collect stage deletes exactly the listed folders, or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from springtide_api.contract import CollectInput, RunFile
from springtide_trainer.errors import Refused
from springtide_trainer.stages.collect import collect

if TYPE_CHECKING:
    from pathlib import Path

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
