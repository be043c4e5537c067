"""Background processes that outlive the command that started them.

A pid file may be older than the process that now has its number, so nothing here trusts or ends a
pid before its command line and its start time say that it is ours.
"""

import json
import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


class NotReadyError(RuntimeError):
    """A part of the cluster ended or did not come up in time; the message holds its last words."""


@dataclass(frozen=True)
class Daemon:
    """One process of a cluster: `argv` run behind `enter`, its log and its pid kept in `home`."""

    name: str
    argv: Sequence[str]
    home: Path
    enter: Sequence[str] = ()

    @property
    def log(self) -> Path:
        return self.home / "log" / f"{self.name}.log"

    def start(self) -> None:
        """Start the process unless exactly this one runs already."""
        record = _read(self.home, self.name)
        if record and record["argv"] == list(self.argv) and _is_alive(record):
            return
        stop(self.home, [self.name])
        self.log.parent.mkdir(parents=True, exist_ok=True)
        pid = _spawn([*self.enter, *self.argv], self.log)
        record = {"pid": pid, "started": _start_time(pid), "argv": list(self.argv)}
        path = _pid_file(self.home, self.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record))

    def start_until(self, answers: Callable[[], bool]) -> None:
        """Start the process and return when it answers.

        Raises:
            NotReadyError: it ended or did not answer within a minute.
        """
        self.start()

        def ended() -> bool:
            return running(self.home, self.name) is None

        if not waited(lambda: answers() or ended(), seconds=60) or ended():
            raise NotReadyError(f"{self.name} is not ready:\n{last_lines(self.log, 5)}")


def running(home: Path, name: str) -> int | None:
    """The pid of the daemon `name` of `home`, or None where it does not run."""
    record = _read(home, name)
    return record["pid"] if record and _is_alive(record) else None


def names(home: Path) -> list[str]:
    """All daemons that `home` has a pid file of."""
    return sorted(path.stem for path in (home / "pid").glob("*.json"))


def stop(home: Path, daemons: Iterable[str], *, grace: float = 0.0) -> None:
    """End the daemons: TERM and up to `grace` seconds, then KILL; remove their pid files."""
    daemons = list(daemons)
    pids = [pid for name in daemons if (pid := running(home, name))]
    if grace:
        _signal(pids, signal.SIGTERM)
        waited(lambda: not any(map(is_running, pids)), seconds=grace)
    end(pids)
    for name in daemons:
        _pid_file(home, name).unlink(missing_ok=True)


def end(pids: Iterable[int]) -> None:
    """Kill processes that are known to be ours and wait until they are gone."""
    pids = [pid for pid in pids if is_running(pid)]
    _signal(pids, signal.SIGKILL)
    waited(lambda: not any(map(is_running, pids)), seconds=10)


def waited(done: Callable[[], bool], *, seconds: float, pause: float = 0.02) -> bool:
    """Ask `done` again and again; whether it became true within `seconds`."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


def is_running(pid: int) -> bool:
    """Whether the process exists; one that waits for its parent to notice its end does not.

    A killed one whose first thread has ended holds its ports until the last thread has.
    """
    _reap(pid)
    return (stat := _stat(pid)) is not None and (stat[0] not in "ZX" or _threads(pid) > 1)


def _threads(pid: int) -> int:
    try:
        return len(list(Path(f"/proc/{pid}/task").iterdir()))
    except OSError:
        return 0


def last_lines(log: Path, count: int) -> str:
    """The end of a log, for a message about a process that failed."""
    if not log.exists():
        return f"{log.name}: no log"
    lines = log.read_text(errors="replace").splitlines()[-count:]
    return "\n".join(f"{log.name}: {line}" for line in lines)


def command_lines() -> dict[int, list[str]]:
    """The command line of every process of this machine by its pid."""
    pids = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
    return {pid: line for pid in pids if (line := _command_line(pid))}


def _spawn(argv: Sequence[str], log: Path) -> int:
    # Unlike with a Popen object nothing complains when a daemon outlives the one who started it.
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    return os.posix_spawnp(argv[0], list(argv), os.environ, file_actions=files, setsid=True)


def _pid_file(home: Path, name: str) -> Path:
    return home / "pid" / f"{name}.json"


def _read(home: Path, name: str) -> dict | None:
    try:
        record = json.loads(_pid_file(home, name).read_text())
        return record if {"pid", "started", "argv"} <= record.keys() else None
    except (FileNotFoundError, ValueError, AttributeError):
        return None


def _is_alive(record: dict) -> bool:
    pid, argv = record["pid"], record["argv"]
    if not is_running(pid) or _start_time(pid) != record["started"]:
        return False
    # At the moment of an exec the kernel shows no command line at all; and right after the start
    # it begins with nsenter, which then becomes the daemon.
    waited(lambda: bool(_command_line(pid)) or not is_running(pid), seconds=1, pause=0.001)
    return _command_line(pid)[-len(argv) :] == argv


def _command_line(pid: int) -> list[str]:
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return [os.fsdecode(word) for word in line.split(b"\0")[:-1]]


def _stat(pid: int) -> list[str] | None:
    try:
        # The name in parentheses may hold anything, so only what follows it is split.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _start_time(pid: int) -> str:
    stat = _stat(pid)
    return stat[19] if stat else ""


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
