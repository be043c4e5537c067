"""A training goes on where its pod is killed, or the object store ends for a while."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
from local_cluster import object_store as s3
from trainer.objects.conftest import NOW, Bucket, training

from springtide_api.contract import ExitCode
from springtide_trainer.objects.store import Store
from springtide_trainer.training.checkpoints import Checkpoints

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.object_store

CHECKPOINTS = "storage/shop/ranker/checkpoints/g1"


@pytest.fixture
def server(tmp_path, monkeypatch):
    """An S3 server that this test alone uses."""
    made = s3.on_loopback(tmp_path / "s3")
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    yield made
    made.stop()


@pytest.fixture
def bucket(server) -> Bucket:
    return Bucket("s3://models", server.bucket("models"))


@pytest.fixture
def asked(update, deliver: Callable[..., None], published_model: str):
    """The block of a training with a checkpoint every second step; nothing is trained yet."""
    deliver(1, 2, 3)
    update.recipe["training"] |= {"checkpoint": {"everySteps": 2}}
    update.recipe["training"]["hyperparameters"] |= {"batchSize": 16}
    parent = update.run("import", "g0-import-1", **{"import": {"uri": published_model}})
    window = update.run("probe", "probe-1", probe=NOW).result.probe.window
    return training(update, parent.result.imported, window)


@pytest.mark.survives(
    "Data",
    "the object store ends in the middle of a training and comes back",
    "the training waits, and has the weights of an undisturbed one",
)
def test_a_training_waits_for_a_store_that_is_restarted(update, asked, server, monkeypatch):
    undisturbed = update.run("train", "g1-train-1", **asked).result.train.artifact
    put, stopped, over = Store.put, [], threading.Event()

    def start_later() -> None:
        """Start the server, which ends with this thread."""
        time.sleep(2)
        server.start()
        over.wait()

    def ending(self, key, content):
        if "step-000000004" in key and not stopped:
            server.stop()
            stopped.append(key)
            threading.Thread(target=start_later, daemon=True).start()
        put(self, key, content)

    monkeypatch.setattr(Store, "put", ending)
    again = update.run("train", "g2-train-1", **asked)
    over.set()
    assert again.code == ExitCode.DONE, again.result
    assert again.result.train.artifact.digest == undisturbed.digest
    assert stopped


@pytest.mark.survives(
    "Data",
    "a training pod whose storage is an object store is killed after a checkpoint",
    "the next attempt resumes from the checkpoint and has the same weights; nothing is left",
)
def test_the_next_attempt_resumes_from_the_checkpoint_in_the_store(
    update, asked, bucket, tmp_path, monkeypatch
):
    undisturbed = update.run("train", "g1-train-1", **asked).result.train.artifact
    bucket.store.delete(bucket.keys("storage/shop/ranker/results"))
    run = update.run_file("train", "g1-train-1", **asked)
    (tmp_path / "run.json").write_text(run.model_dump_json(by_alias=True, exclude_none=True))
    environ = {
        **os.environ,
        "SPRINGTIDE_RUN_FILE": str(tmp_path / "run.json"),
        "SPRINGTIDE_TERMINATION_LOG": str(tmp_path / "message"),
        "SPRINGTIDE_POD_UID": "killed",
        "TMPDIR": str(tmp_path),
    }
    pod = subprocess.Popen([sys.executable, "-m", "springtide_trainer"], env=environ)
    deadline = time.monotonic() + 300
    while not [key for key in bucket.keys(CHECKPOINTS) if key.endswith("commit.json")]:
        assert pod.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    pod.send_signal(signal.SIGKILL)
    pod.wait()

    resumed = []
    newest = Checkpoints.newest

    def seen(self):
        resumed.append(newest(self))
        return resumed[-1]

    monkeypatch.setattr(Checkpoints, "newest", seen)
    again = update.run("train", "g1-train-2", pod="next", **asked)
    assert again.code == ExitCode.DONE, again.result
    assert resumed[0].step >= 2
    assert again.result.train.artifact.digest == undisturbed.digest
    assert not bucket.keys(CHECKPOINTS)
    assert not [key for key in bucket.keys("") if "killed" in key]


def test_a_damaged_checkpoint_is_removed_and_an_older_one_is_resumed(
    update, asked, bucket, monkeypatch
):
    undisturbed = update.run("train", "g1-train-1", **asked).result.train.artifact

    class Ended(Exception):
        """The pod ends here."""

    save = Checkpoints.save

    def saving(self, state):
        save(self, state)
        if state.step == 6:
            raise Ended

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "save", saving)
        assert update.run("train", "g2-train-1", **asked).code == 1
    steps = {key.split("/")[5] for key in bucket.keys(CHECKPOINTS)}
    assert steps == {"step-000000004", "step-000000006"}
    (damaged,) = (k for k in bucket.keys(CHECKPOINTS) if "06" in k and k.endswith("state.json"))
    bucket.store.put(damaged, b"{}")
    again = update.run("train", "g2-train-2", **asked)
    assert again.code == ExitCode.DONE, again.result
    assert again.result.train.artifact.digest == undisturbed.digest
