"""A full disk fails a stage, leaves nothing half-written and is no fault of the data."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("small_disk.py")


def may_mount() -> bool:
    if shutil.which("unshare") is None or os.geteuid() != 0:
        return False
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode == 0


def a_look(tmp_path: Path, disk: Path) -> Path:
    """Write three months of clicks, and the run file of a look at them with its home on a disk."""
    rows = [
        f"2026-{month:02}-{day:02} 12:00:00,shoe {month * day * 7919},{day % 2}"
        for month in (1, 2, 3)
        for day in range(1, 29)
        for _ in range(20)
    ]
    (tmp_path / "clicks.csv").write_text("\n".join(["at,query,clicked", *rows]) + "\n")
    columns = {"text": "query", "label": "clicked", "timestamp": "at"}
    source = {"uri": (tmp_path / "clicks.csv").as_uri(), "format": "CSV", "columns": columns}
    run = {
        "stage": "probe",
        "namespace": "shop",
        "update": "ranker",
        "job": "ranker-probe-1",
        "home": f"{disk}/shop/ranker",
        "recipe": {
            "model": {"initial": {"uri": "file:///models/x"}, "labels": ["0", "1"]},
            "data": {"source": source},
            "training": {},
            "evaluation": {},
            "gate": {"rules": [{"name": "floor", "metric": "auc", "min": "0.5"}]},
            "storage": {"uri": "file:///models", "volume": {"claimName": "models"}},
        },
        "probe": {"now": "2026-06-01T00:00:00Z", "named": []},
    }
    (tmp_path / "run.json").write_text(json.dumps(run))
    return tmp_path / "run.json"


@pytest.mark.survives(
    "Data",
    "the disk of the storage is full, at any point of writing",
    "told with the free bytes and the claim to enlarge, tried again; nothing half-written",
)
@pytest.mark.skipif(not may_mount(), reason="needs root and mount namespaces")
def test_a_full_disk_leaves_nothing_half_written_and_the_next_attempt_gets_through(
    tmp_path: Path,
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    called = ["unshare", "--mount", sys.executable, SCRIPT, a_look(tmp_path, disk), disk]

    ran = subprocess.run(called, capture_output=True, text=True, check=True)
    ends = [json.loads(line) for line in ran.stdout.splitlines()]

    assert {end["code"] for end in ends} == {0, 75}
    assert all(end["again"] == 0 and end["window"] for end in ends)
    assert all(end["left"] == [] for end in ends)
    full = [end["failure"] for end in ends if end["code"]]
    assert len(full) >= 3
    assert {each["reason"] for each in full} == {"DiskFull"}
    assert {each["field"] for each in full} == {"storage.volume.claimName"}
    assert "no space left in the storage, 0 of 1,048,576 bytes are free" in full[0]["message"]
    assert full[0]["message"].endswith("; enlarge the claim or delete what is not needed")
