"""The import of an initial model from a hub, as the pod's process does it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from trainer.hub.server import SIGNATURE, TOKEN, HubServer
from trainer.training.conftest import LABELS, imported, publish, recipe

from springtide_api.contract import ExitCode, Result, RunFile
from springtide_trainer.errors import Refused
from springtide_trainer.stages.runner import run_stage
from springtide_trainer.storage import Home

if TYPE_CHECKING:
    from pathlib import Path

URI = "hf://shop/tiny@main"


@dataclass
class Pods:
    """Processes that import the same model, each with a folder for its run file and message."""

    hub: HubServer
    home: Home
    folder: Path

    def run_file(self, attempt: int = 1, uri: str = URI, **block: Any) -> RunFile:
        return RunFile.model_validate(
            {
                "stage": "import",
                "namespace": "shop",
                "update": "ranker",
                "number": 0,
                "job": f"g0-import-{attempt}",
                "result": "g0-import",
                "home": str(self.home.path),
                "recipe": recipe(),
                "import": {"uri": uri, **block},
            }
        )

    def start(self, attempt: int) -> subprocess.Popen[str]:
        run = self.folder / f"run-{attempt}.json"
        run.write_text(self.run_file(attempt).model_dump_json(by_alias=True, exclude_none=True))
        environ = {
            **os.environ,
            "SPRINGTIDE_RUN_FILE": str(run),
            "SPRINGTIDE_TERMINATION_LOG": str(self.message(attempt)),
            "SPRINGTIDE_POD_UID": f"uid-{attempt}",
            "HF_ENDPOINT": self.hub.endpoint,
            "HF_TOKEN": TOKEN,
            "HF_HOME": str(self.folder / "huggingface"),
        }
        return subprocess.Popen(
            [sys.executable, "-m", "springtide_trainer"],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def message(self, attempt: int) -> Path:
        return self.folder / f"message-{attempt}.json"

    def run(self, attempt: int) -> tuple[Result, str]:
        """Import in a process; return result and log."""
        process = self.start(attempt)
        log, _ = process.communicate()
        assert process.returncode == ExitCode.DONE, log
        return Result.model_validate_json(self.message(attempt).read_bytes()), log


@pytest.fixture
def pods(hub, tmp_path) -> Pods:
    return Pods(hub, Home(tmp_path / "models" / "shop" / "ranker"), tmp_path)


@pytest.fixture
def source(tmp_path) -> Path:
    """A model's folder."""
    return publish(tmp_path / "published", LABELS)


def test_a_model_of_a_hub_becomes_the_artifact_that_its_folder_becomes(pods, hub, source):
    """No token is in a file, a log or a message, and nothing but the model is asked for."""
    code = {"modeling_mine.py": b"raise SystemExit", "pytorch_model.bin": b"\x80\x04"}
    files = {path.name: path.read_bytes() for path in source.iterdir()}
    commit = hub.publish("shop/tiny", files | code)
    hub.models["shop/tiny"].private = True

    result, log = pods.run(1)

    assert result.imported.commit == commit
    assert result.imported.digest == imported(source, Home(pods.folder / "other")).digest
    paths = [
        "/api/models/shop/tiny/revision/main",
        *(f"/shop/tiny/resolve/{commit}/{name}" for name in files),
    ]
    assert sorted(path for path in hub.asked() if not path.startswith("/lfs/")) == sorted(paths)
    assert all(f"/shop/tiny/resolve/{commit}/" in path for path in hub.asked("HEAD"))
    assert {request.method for request in hub.requests} == {"GET", "HEAD"}

    written = [path for path in pods.folder.rglob("*") if path.is_file()]
    assert json.loads((pods.home.path / "results/g0-import.json").read_text())["import"]["commit"]
    texts = [log.encode(), *(path.read_bytes() for path in written)]
    for secret in (TOKEN, SIGNATURE):
        assert not [text for text in texts if secret.encode() in text]
    assert not list((pods.home.path / "tmp").iterdir())
    assert not (pods.folder / "huggingface").exists()


@pytest.mark.survives(
    "Model",
    "the pod is killed while it downloads the model from a hub",
    "the next attempt downloads it again; nothing of the first is left",
)
def test_a_pod_that_was_killed_in_a_download_leaves_nothing_behind(pods, hub, source):
    hub.publish("shop/tiny", source)
    reached, killed = threading.Event(), threading.Event()

    def hang(request):
        if request.large and not killed.is_set():
            reached.set()
            killed.wait(60)
            return "cut"
        return "pass"

    hub.fault = hang
    process = pods.start(1)
    assert reached.wait(400)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    killed.set()
    assert list((pods.home.path / "tmp").iterdir())

    result, _ = pods.run(2)
    assert result.imported.digest == imported(source, Home(pods.folder / "other")).digest
    assert not list((pods.home.path / "tmp").iterdir())


def import_model(pods: Pods, **block: Any) -> Result:
    """Import in this process."""
    return run_stage(pods.run_file(**block), pods.home, "pod").result


def test_a_digest_in_the_spec_refuses_a_branch_that_moved_and_names_its_commit(
    pods, hub, source, tmp_path
):
    hub.publish("shop/tiny", source)
    digest = imported(source, Home(tmp_path / "other")).digest
    assert import_model(pods, digest=digest).imported.digest == digest
    moved = hub.publish("shop/tiny", publish(tmp_path / "later", LABELS[::-1]))
    again = Pods(hub, Home(tmp_path / "recreated"), tmp_path)
    failure = import_model(again, digest=digest).failure
    assert (failure.reason, failure.field) == ("DigestMismatch", "spec.model.initial.digest")
    assert failure.message.startswith(f"{URI}, commit {moved}, has digest sha256:")


def test_another_attempt_reports_the_commit_that_was_imported_though_the_branch_moved(
    pods, hub, source, tmp_path
):
    first = hub.publish("shop/tiny", source)
    assert import_model(pods).imported.commit == first
    hub.publish("shop/tiny", publish(tmp_path / "later"))
    assert import_model(pods, attempt=2).imported.commit == first


def test_what_is_wrong_with_a_model_is_said_about_its_uri(pods, hub, source):
    config = json.loads((source / "config.json").read_text()) | {"auto_map": {"AutoModel": "m.M"}}
    (source / "config.json").write_text(json.dumps(config))
    hub.publish("shop/tiny", source)
    failure = import_model(pods).failure
    assert failure.reason == "UnsafeArtifact"
    assert failure.message.startswith(f"{URI}/config.json refers to custom code (auto_map)")


def test_a_model_that_does_not_fit_on_the_storage_is_refused_with_the_numbers(
    pods, hub, source, monkeypatch
):
    hub.publish("shop/tiny", source)
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=5))
    outcome = run_stage(pods.run_file(), pods.home, "pod")
    failure = outcome.result.failure
    assert (failure.reason, outcome.code) == ("DiskFull", ExitCode.ENVIRONMENT)
    assert f"5 of {usage.total:,} bytes are free" in failure.message
    assert f"{URI} takes " in failure.message


def test_a_hub_is_asked_for_no_model_of_another_place(pods, hub, source):
    imported(source, pods.home)
    with pytest.raises(Refused):
        imported(source / "missing", pods.home)
    assert hub.requests == []
