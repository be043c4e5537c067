from pathlib import Path

import pytest
from local_cluster import go_tools, processes


def test_the_caches_of_the_builds_are_gone_at_once_and_deleted_in_the_background(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "go-build"
    (cache / "00").mkdir(parents=True)
    (cache / "00" / "object").write_text("compiled")
    monkeypatch.setattr(go_tools, "CACHES", {"GOCACHE": cache})
    monkeypatch.setattr(go_tools, "OWN_GO", tmp_path / "go")
    monkeypatch.setattr(go_tools, "TRASH", tmp_path / "trash")

    go_tools._drop()

    assert not cache.exists()
    assert processes.waited(lambda: not (tmp_path / "trash").exists(), seconds=60)


def test_gateway_object_store_kueue_and_job_set_are_built_for_their_tests_alone() -> None:
    names = [step.name for step in go_tools.steps()]
    every = [step.name for step in go_tools.steps(go_tools.FOR_ALL_TESTS)]

    others = [name for name in every if name not in names]
    assert others == ["traefik", "versitygw", "kueue", "jobset"]
