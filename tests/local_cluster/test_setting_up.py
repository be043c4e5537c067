from pathlib import Path

import pytest
from local_cluster import setting_up, virtual_environment
from local_cluster.steps import SetupError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(setting_up, "CACHE", tmp_path)
    monkeypatch.setattr(virtual_environment, "STAMP", tmp_path / "stamp")
    monkeypatch.setattr(setting_up, "DISK_GB", dict.fromkeys(setting_up.PARTS, 1e9))
    return tmp_path


@pytest.mark.parametrize("parts", setting_up.PARTS)
def test_a_full_disk_is_reported_before_anything_is_built(cache: Path, parts: str) -> None:
    with pytest.raises(SetupError, match=r"GB free and .* GB are needed"):
        setting_up._check_disk(parts)


def test_a_part_that_is_built_needs_no_further_space(cache: Path) -> None:
    (cache / "images/store").mkdir(parents=True)

    setting_up._check_disk("images")
    with pytest.raises(SetupError):
        setting_up._check_disk("all")
    (cache / "stamp").touch()
    setting_up._check_disk("all")
