import json
import os
import signal
from pathlib import Path

from local_cluster import processes
from local_cluster.processes import Daemon


def sleeper(home: Path, seconds: str = "60") -> Daemon:
    return Daemon("sleeper", ["sleep", seconds], home)


def test_a_daemon_that_runs_is_not_started_twice(tmp_path: Path) -> None:
    sleeper(tmp_path).start()
    first = processes.running(tmp_path, "sleeper")

    sleeper(tmp_path).start()

    assert processes.running(tmp_path, "sleeper") == first
    processes.stop(tmp_path, ["sleeper"])


def test_a_daemon_with_another_command_line_replaces_the_first(tmp_path: Path) -> None:
    sleeper(tmp_path).start()
    first = processes.running(tmp_path, "sleeper")

    sleeper(tmp_path, "61").start()

    assert first
    assert not processes.is_running(first)
    assert processes.running(tmp_path, "sleeper") not in (None, first)
    processes.stop(tmp_path, ["sleeper"])


def test_a_pid_that_now_belongs_to_somebody_else_is_left_alone(tmp_path: Path) -> None:
    sleeper(tmp_path / "theirs").start()
    theirs = processes.running(tmp_path / "theirs", "sleeper")
    stale = tmp_path / "ours" / "pid" / "etcd.json"
    stale.parent.mkdir(parents=True)
    stale.write_text(json.dumps({"pid": theirs, "started": "1", "argv": ["etcd"]}))

    processes.stop(tmp_path / "ours", ["etcd"])

    assert theirs
    assert processes.is_running(theirs)
    assert not stale.exists()
    processes.stop(tmp_path / "theirs", ["sleeper"])


def test_the_same_command_started_later_under_the_same_pid_is_not_ours(tmp_path: Path) -> None:
    sleeper(tmp_path).start()
    pid_file = tmp_path / "pid" / "sleeper.json"
    record = json.loads(pid_file.read_text())

    pid_file.write_text(json.dumps({**record, "started": "1"}))

    assert processes.running(tmp_path, "sleeper") is None
    os.kill(record["pid"], signal.SIGKILL)
    assert processes.waited(lambda: not processes.is_running(record["pid"]), seconds=10)


def test_a_broken_pid_file_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / "pid").mkdir()
    (tmp_path / "pid" / "etcd.json").write_text("{")

    assert processes.running(tmp_path, "etcd") is None
