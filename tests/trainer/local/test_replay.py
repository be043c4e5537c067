"""Local runs replay rows of the generation that they continue from, as runs of a cluster do."""

from __future__ import annotations

import shutil

from springtide_trainer.data.snapshots import next_buffer
from springtide_trainer.storage import local_path

REPLAYING = {"retention": {"replay": {}}, "checkpoint": {"everySteps": 5}}


def test_the_next_run_replays_rows_of_the_accepted_one_also_from_a_moved_storage(laptop, capsys):
    laptop.write(REPLAYING)
    assert laptop.run("--through", "2026-03-01") == 0
    assert ", 0 rows replayed" in capsys.readouterr().out
    first = laptop.generations()[1]
    assert local_path(first.buffer.uri).exists()
    moved = laptop.folder / "elsewhere"
    shutil.move(laptop.folder / "springtide", moved)

    assert laptop.run("--storage", str(moved)) == 0
    out = capsys.readouterr().out
    assert "144 rows, 24 rows replayed" in out  # 20 % of 120 new rows
    assert not (laptop.folder / "springtide").exists()


def test_a_run_that_continues_keeps_the_quarantine_of_its_first_start(laptop, monkeypatch):
    laptop.write(REPLAYING)

    def fail(*_: object, **__: object) -> None:
        raise OSError("the disk is gone")

    with monkeypatch.context() as patched:
        patched.setattr(next_buffer, "build", fail)
        assert laptop.run("--through", "2026-03-01", "--quarantine", "2026-04") != 0
    assert [*(laptop.home / "checkpoints" / "g1").iterdir()]
    (laptop.home / "run.log").write_text("")

    assert laptop.run("--through", "2026-03-01") == 0
    assert '"message": "resumed"' in (laptop.home / "run.log").read_text()
    assert laptop.generations()[1].quarantined == ["2026-04"]
