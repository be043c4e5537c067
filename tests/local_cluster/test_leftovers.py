"""The cgroup of all pods of a cluster, in folders that stand for the kernel's."""

from pathlib import Path

import pytest
from local_cluster import leftovers


@pytest.mark.parametrize(
    ("hierarchy", "file", "weight"),
    [
        ("cpu", "cpu.shares", "4096"),
        ("cpu,cpuacct", "cpu.shares", "4096"),
        ("", "cpu.weight", "400"),
    ],
    ids=["version 1", "version 1 with cpuacct", "version 2"],
)
def test_the_pods_of_a_cluster_weigh_as_much_as_four_processes_beside_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hierarchy: str, file: str, weight: str
) -> None:
    monkeypatch.setattr(leftovers, "CGROUPS", tmp_path)
    if not hierarchy:
        (tmp_path / "cgroup.controllers").write_text("cpu")
    setting = tmp_path / hierarchy / "springtide-local" / file
    setting.parent.mkdir(parents=True)
    setting.write_text("1024")  # the kernel makes it with the group

    leftovers.make_cgroup("/springtide-local")

    assert setting.read_text() == weight


def test_hierarchies_without_a_weight_only_get_the_group(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(leftovers, "CGROUPS", tmp_path)
    (tmp_path / "memory").mkdir()

    leftovers.make_cgroup("/springtide-local")

    assert list((tmp_path / "memory/springtide-local").iterdir()) == []
