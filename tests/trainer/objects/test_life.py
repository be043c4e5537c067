"""A generation from import to evaluation, with all its files in an S3 server, as processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from local_cluster.object_store import ACCESS, SECRET
from trainer.objects.conftest import NOW, training
from trainer.training.processes.test_pods import message, processes_of, start_pod

from springtide_api.contract import ExitCode, Result
from springtide_trainer.objects.folders import COMMIT
from springtide_trainer.objects.store import is_object_uri
from springtide_trainer.stages.runner import opened, run_stage
from springtide_trainer.storage import Home

pytestmark = pytest.mark.object_store

__all__ = ["start_pod"]  # a fixture


@pytest.fixture
def pod(update, tmp_path):
    """Run a stage in a process of its own; return exit code, result and log."""

    def pod(stage: str, job: str, **blocks) -> tuple[int, Result, str]:
        run = update.run_file(stage, job, **blocks)
        (tmp_path / "run.json").write_text(run.model_dump_json(by_alias=True, exclude_none=True))
        message = tmp_path / f"{job}.json"
        environ = {
            **os.environ,
            "SPRINGTIDE_RUN_FILE": str(tmp_path / "run.json"),
            "SPRINGTIDE_TERMINATION_LOG": str(message),
            "SPRINGTIDE_POD_UID": "uid",
            "TMPDIR": str(tmp_path),
        }
        ended = subprocess.run(
            [sys.executable, "-m", "springtide_trainer"],
            env=environ,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        return ended.returncode, Result.model_validate_json(message.read_bytes()), ended.stderr

    return pod


def test_a_generation_is_imported_trained_and_evaluated_without_a_claim(
    update, pod, bucket, deliver, published_model, tmp_path
):
    """No credential is in a log, a termination message, a run file or an object."""
    deliver(1, 2, 3)
    logs = []

    def done(stage: str, job: str, **blocks) -> Result:
        code, result, log = pod(stage, job, **blocks)
        logs.append(log + (tmp_path / f"{job}.json").read_text())
        logs.append((tmp_path / "run.json").read_text())
        assert code == ExitCode.DONE, log
        return result

    parent = done("import", "g0-import-1", **{"import": {"uri": published_model}}).imported
    assert parent.uri == f"{update.home}/artifacts/{parent.digest.replace(':', '-')}"
    window = done("probe", "probe-1", probe=NOW).probe.window
    assert (window.rows, window.holdout_rows) == (240, 120)
    made = done("train", "g1-train-1", **training(update, parent, window)).train.artifact
    evaluated = done(
        "evaluate",
        "g1-evaluate-1",
        evaluate={
            "candidate": {"uri": made.uri, "digest": made.digest},
            "baseline": {"uri": parent.uri, "digest": parent.digest},
            "holdout": {"uri": window.manifest, "digest": window.digest},
        },
    ).evaluate
    assert evaluated.report == f"{update.home}/reports/g1-evaluate-1"
    key = "storage/shop/ranker/reports/g1-evaluate-1/g1-evaluate-1-uid/metrics.json"
    assert json.loads(bucket.store.read(key))["candidate"]["uri"] == made.uri
    queries = bucket.store.read(f"{made.uri.removeprefix(f'{bucket.uri}/')}.warm-up.json")
    assert json.loads(queries)["digest"] == made.digest
    assert not bucket.keys("storage/shop/ranker/checkpoints")
    assert not list(tmp_path.glob("springtide-*"))

    objects = [path.read_bytes() for path in bucket.folder.rglob("*") if path.is_file()]
    assert len(objects) > 30
    for secret in (ACCESS, SECRET):
        assert not [log for log in logs if secret in log]
        assert not [content for content in objects if secret.encode() in content]


def test_a_generation_in_a_store_has_the_digests_of_one_on_a_claim(
    update, bucket, deliver, published_model, tmp_path
):
    deliver(1, 2, 3)
    files = tmp_path / "claim"
    for key in bucket.keys(""):
        (files / key).parent.mkdir(parents=True, exist_ok=True)
        (files / key).write_bytes(bucket.store.read(key))
    found = []
    for root in (bucket.uri, files.as_uri()):
        text = update.run_file("import", "x").model_dump_json(by_alias=True)
        recipe = json.loads(text.replace(bucket.uri, root))["recipe"]
        if root != bucket.uri:
            recipe["storage"]["volume"] = {"claimName": "models"}
        update.recipe = recipe
        home = update.home if root == bucket.uri else str(files / "storage/shop/ranker")

        def run(stage: str, job: str, home: str = home, **blocks) -> Result:
            asked = update.run_file(stage, job, **blocks).model_copy(update={"home": home})
            if is_object_uri(home):
                outcome = update.run(stage, job, **blocks)
            else:
                outcome = run_stage(asked, Home(Path(home)), "pod")
            assert outcome.code == ExitCode.DONE, outcome.result
            return outcome.result

        parent = run("import", "g0-import-1", **{"import": {"uri": f"{root}/models/tiny"}}).imported
        window = run("probe", "probe-1", probe=NOW).probe.window
        steps = training(update, parent, window)
        steps["train"]["checkpoints"] = f"{home}/checkpoints/g1"
        made = run("train", "g1-train-1", **steps).train.artifact
        found.append((parent.digest, window.digest, made.digest))
    assert found[0] == found[1]


def test_several_processes_train_from_a_store_and_one_of_them_commits(
    update, bucket, deliver, published_model
):
    deliver(1, 2, 3)
    parent = update.run("import", "g0-import-1", **{"import": {"uri": published_model}})
    window = update.run("probe", "probe-1", probe=NOW).result.probe.window
    blocks = training(update, parent.result.imported, window)
    asked = update.run_file("train", "g1-train-1", **blocks)
    with opened(asked, "pod-1") as home:
        outcome = run_stage(asked, home, "pod-1", processes=2)
    assert outcome.code == ExitCode.DONE, outcome.result
    made = outcome.result.train.artifact
    folder = made.uri.removeprefix(f"{bucket.uri}/")
    writers = {key.removeprefix(f"{folder}/").partition("/")[0] for key in bucket.keys(folder)}
    assert len(writers) == 2  # of the one that uploaded, and the commit
    committed = json.loads(bucket.store.read("storage/shop/ranker/results/g1-train-1.json"))
    assert committed["train"]["artifact"]["digest"] == made.digest
    assert not bucket.keys("storage/shop/ranker/checkpoints")


@pytest.mark.survives(
    "Jobs and pods",
    "one of two processes of a training with FSDP and an object store is killed",
    "the next attempt resumes from the last checkpoint in the store",
)
def test_a_training_with_fsdp_is_resumed_from_a_checkpoint_in_a_store(
    update, bucket, deliver, published_model, start_pod, tmp_path, capfd
):
    deliver(1, 2, 3)
    parent = update.run("import", "g0-import-1", **{"import": {"uri": published_model}})
    window = update.run("probe", "probe-1", probe=NOW).result.probe.window
    update.recipe["training"] |= {
        "hyperparameters": {"maxSteps": 120, "batchSize": 16, "learningRate": "1e-3"},
        "checkpoint": {"everySteps": 10},
        "parallelism": {"type": "FSDP"},
    }
    blocks = training(update, parent.result.imported, window)

    first = start_pod(update.run_file("train", "g1-train-1", **blocks), 2)
    while not _checkpoints(bucket):
        assert first.poll() is None, "the pod ended before its first checkpoint"
        time.sleep(0.05)
    os.kill(processes_of(first)[1], signal.SIGKILL)
    assert first.wait() == 128 + signal.SIGKILL

    saved = max(_checkpoints(bucket))

    second = start_pod(update.run_file("train", "g1-train-2", **blocks), 2)
    assert second.wait() == 0
    result = message(tmp_path, "g1-train-2")
    assert (result.ok, result.train.steps) == (True, 120)
    assert f'"step": {int(saved.removeprefix("step-"))}, "of": 120' in capfd.readouterr().err
    assert not bucket.keys("storage/shop/ranker/checkpoints")


def _checkpoints(bucket) -> set[str]:
    """Return the names of the committed checkpoints."""
    keys = bucket.keys("storage/shop/ranker/checkpoints/g1")
    return {
        folder.rsplit("/", 1)[-1]
        for key in keys
        if (folder := key.removesuffix(f"/{COMMIT}")) != key
    }
