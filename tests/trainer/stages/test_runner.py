"""The end of a pod: exit code, committed result, termination message."""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest
from trainer.panicking import panic

from springtide_api.contract import CommittedArtifact, ExitCode, Result
from springtide_trainer.errors import Diverged, Interrupted, Refused
from springtide_trainer.stages import import_model, runner
from springtide_trainer.storage import Home

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MADE = CommittedArtifact(uri="file:///x", digest="sha256:" + "1" * 64, bytes=7)


@pytest.fixture
def pod(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, Result | None]]:
    """Run a pod whose stage is a function; return its exit code and termination message."""

    def start(work: Callable[[], Any], job: str = "job-1") -> tuple[int, Result | None]:
        monkeypatch.setattr(import_model, "import_model", lambda run, home, tmp: work())
        run = {
            "stage": "import",
            "namespace": "shop",
            "update": "ranker",
            "number": 0,
            "job": job,
            "result": "g0-import",
            "home": str(tmp_path / "home"),
            "recipe": {
                "model": {"initial": {"uri": "file:///models/x"}, "labels": ["no", "yes"]},
                "data": {
                    "source": {
                        "uri": "file:///data/x",
                        "format": "CSV",
                        "columns": {"text": "text", "label": "label", "timestamp": "at"},
                    }
                },
                "training": {},
                "evaluation": {},
                "gate": {"rules": [{"name": "floor", "metric": "auc", "dataset": "holdout"}]},
                "storage": {"uri": "file:///models", "volume": {"claimName": "models"}},
            },
        }
        (tmp_path / "run.json").write_text(json.dumps(run))
        message = tmp_path / "termination"
        message.unlink(missing_ok=True)
        code = runner.run_pod(
            {
                "SPRINGTIDE_RUN_FILE": str(tmp_path / "run.json"),
                "SPRINGTIDE_TERMINATION_LOG": str(message),
                "SPRINGTIDE_POD_UID": "pod-1",
            }
        )
        if not message.exists():
            return code, None
        return code, Result.model_validate_json(message.read_bytes())

    return start


def raising(error: BaseException) -> Callable[[], Any]:
    def work() -> Any:
        raise error

    return work


def test_a_result_is_committed_and_in_the_termination_message(pod, tmp_path):
    code, result = pod(lambda: MADE)
    assert code == 0
    assert result.imported == MADE
    committed = (tmp_path / "home" / "results" / "g0-import.json").read_bytes()
    assert Result.model_validate_json(committed) == result


def test_a_committed_result_leaves_no_scratch_of_killed_attempts(pod, tmp_path):
    scratch = tmp_path / "home" / "tmp"
    (scratch / "shop-1-g0-import-1-killed").mkdir(parents=True)
    (scratch / "shop-1-g1-train-1-running").mkdir(parents=True)
    pod(lambda: MADE, job="shop-1-g0-import-2")
    assert [left.name for left in scratch.iterdir()] == ["shop-1-g1-train-1-running"]


def test_a_committed_result_is_returned_under_the_new_job_without_work(pod):
    pod(lambda: MADE, job="job-1")
    code, result = pod(raising(AssertionError("worked again")), job="job-2")
    assert (code, result.job, result.imported) == (0, "job-2", MADE)


def test_a_probe_keeps_the_scratch_folder_of_another_running_probe(tmp_path):
    home = Home(tmp_path)
    for name in ("shop-1-probe-1-killed", "shop-1-probe-2-running"):
        (tmp_path / "tmp" / name).mkdir(parents=True)
    before = time.time() - 2 * runner.DAY
    os.utime(tmp_path / "tmp" / "shop-1-probe-1-killed", (before, before))
    home.sweep("shop-1-probe-3", spare=runner.DAY)
    assert [left.name for left in (tmp_path / "tmp").iterdir()] == ["shop-1-probe-2-running"]


def test_the_result_of_the_pod_that_commits_first_is_returned(pod, tmp_path):
    def slow() -> CommittedArtifact:
        results = tmp_path / "home" / "results"
        results.mkdir(parents=True)
        faster = Result(job="job-0", stage="import", number=0, ok=True, imported=MADE)
        (results / "g0-import.json").write_text(faster.model_dump_json(by_alias=True))
        return MADE.model_copy(update={"bytes": 8})

    code, result = pod(slow)
    assert (code, result.job, result.imported) == (0, "job-1", MADE)


@pytest.mark.survives(
    "Results",
    "two pods of one stage run at once, and the first to end removes the other's scratch folder",
    "the other returns the committed result",
)
def test_a_pod_that_fails_after_another_committed_returns_the_committed_result(pod, tmp_path):
    def overtaken() -> None:
        results = tmp_path / "home" / "results"
        results.mkdir(parents=True)
        faster = Result(job="job-0", stage="import", number=0, ok=True, imported=MADE)
        (results / "g0-import.json").write_text(faster.model_dump_json(by_alias=True))
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "tmp/job-1-pod-1/state")

    code, result = pod(overtaken)
    assert (code, result.job, result.imported) == (0, "job-1", MADE)


class OutOfMemoryError(RuntimeError):
    """Has the name of PyTorch's error."""


@pytest.mark.survives(
    "Results",
    "any failure of a stage",
    "an exit code that says whether to retry, one message, nothing committed",
)
@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (Refused("MissingColumn", "no column x", "spec.x"), 3, "MissingColumn"),
        (Refused("NotEnoughData", "few", code=ExitCode.TOO_LITTLE_DATA), 4, "NotEnoughData"),
        (Diverged(3, "loss is nan"), 5, "Diverged"),
        (MemoryError(), 42, "OutOfMemory"),
        (OutOfMemoryError("CUDA out of memory"), 42, "OutOfMemory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 42, "OutOfMemory"),
        (OSError(errno.ENOSPC, "No space left on device"), 75, "DiskFull"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 75, "DiskFull"),
        (PermissionError(errno.EACCES, "Permission denied", "/models/tiny"), 75, "NoAccess"),
        (ZeroDivisionError("secret text of a user"), 1, "Error"),
    ],
)
def test_every_failure_has_its_exit_code_and_commits_nothing(pod, tmp_path, error, code, reason):
    ended, result = pod(raising(error))
    assert ended == code
    assert not result.ok
    assert result.failure.reason == reason
    assert "secret" not in result.failure.message
    assert not (tmp_path / "home" / "results").exists()
    assert not list((tmp_path / "home" / "tmp").iterdir())
    assert pod(lambda: MADE)[0] == 0


def test_a_panic_of_a_library_is_an_unexpected_error(pod):
    code, result = pod(panic)
    assert (code, result.failure.reason) == (1, "Error")
    assert result.failure.message == (
        "Panicked: unexpected error; see the traceback in the log of the pod"
    )


def test_an_import_out_of_memory_names_the_field_to_change(pod):
    code, result = pod(raising(MemoryError()))
    assert (code, result.stage) == (42, "import")
    assert result.failure.message == "out of memory; raise training.compute.importMemory"


def test_a_pod_ended_by_sigterm_writes_no_message_and_leaves_no_files(pod, tmp_path):
    def interrupted() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()

    assert pod(interrupted) == (143, None)
    assert pod(raising(Interrupted())) == (143, None)
    assert not list((tmp_path / "home" / "tmp").iterdir())


def test_a_run_file_that_cannot_be_read_is_invalid_input(tmp_path):
    (tmp_path / "run.json").write_text('{"stage": "dance"}')
    for name in ("run.json", "missing.json"):
        environ = {"SPRINGTIDE_RUN_FILE": str(tmp_path / name)}
        assert runner.run_pod(environ) == ExitCode.INVALID_INPUT


def test_logs_are_one_json_object_per_line(pod, capfd):
    pod(raising(ZeroDivisionError("x")))
    lines = capfd.readouterr().err.splitlines()
    records = [json.loads(line) for line in lines]
    assert any("traceback" in record for record in records)
    assert records[-1]["exitCode"] == 1
