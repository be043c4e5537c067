"""An evaluation in shards whose storage is an object store: pods share nothing but the bucket."""

from __future__ import annotations

import json

import pytest
from trainer.evaluation.conftest import in_shards
from trainer.objects.conftest import CHECKPOINTS, DAMAGES, NOW, commits, damage

from springtide_api.contract import ExitCode
from springtide_trainer.evaluation import kept_scores
from springtide_trainer.stages.launcher import Nodes
from springtide_trainer.stages.runner import opened, run_stage

pytestmark = pytest.mark.object_store

PODS, SHARDS = 2, 3


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def pod(update, deliver, published_model):
    """Run one of the pods of an evaluation of 120 rows in shards of 50."""
    deliver(1, 2, 3)
    made = update.run("import", "g0-import-1", **{"import": {"uri": published_model}})
    window = update.run("probe", "probe-1", probe=NOW).result.probe.window
    ref = {"uri": made.result.imported.uri, "digest": made.result.imported.digest}
    holdout = {"uri": window.manifest, "digest": window.digest}

    def run(rank: int, pods: int = PODS, job: str = "g1-evaluate-1"):
        asked = update.run_file("evaluate", job, evaluate={"candidate": ref, "holdout": holdout})
        with opened(asked, f"pod-{rank}") as home:
            return run_stage(
                in_shards(asked, 50, pods), home, f"pod-{rank}", nodes=Nodes(rank, pods)
            )

    return run


def metrics(bucket, job: str) -> dict:
    (key,) = (k for k in bucket.keys(f"storage/shop/ranker/reports/{job}") if "metrics" in k)
    return json.loads(bucket.store.read(key))["datasets"]


def test_pods_share_shards_through_the_bucket_and_leave_none(pod, bucket):
    assert pod(1).code == ExitCode.DONE
    assert len(commits(bucket)) == 1
    outcome = pod(0)
    assert outcome.code == ExitCode.DONE, outcome.result
    assert not bucket.keys(CHECKPOINTS)
    assert pod(0, pods=1, job="g1-evaluate-again-1").code == ExitCode.DONE
    assert metrics(bucket, "g1-evaluate-1") == metrics(bucket, "g1-evaluate-again-1")


def test_a_pod_that_scored_in_vain_leaves_nothing(pod, bucket, monkeypatch):
    """The first pod has scored the same shard, and has the result."""
    commit = kept_scores.commit_folder

    def after_the_first_pod(*args):
        monkeypatch.setattr(kept_scores, "commit_folder", commit)
        assert pod(0).code == ExitCode.DONE
        return commit(*args)

    monkeypatch.setattr(kept_scores, "commit_folder", after_the_first_pod)
    assert pod(1).code == ExitCode.DONE
    assert not bucket.keys(CHECKPOINTS)


@pytest.mark.survives(
    "Jobs and pods",
    "a pod of an evaluation is killed after it wrote scores that the first pod no longer needs",
    "they stay in the object store until their generation is deleted from the history",
)
def test_scores_of_a_pod_that_was_killed_after_the_result_are_deleted_with_their_generation(
    pod, update, bucket, monkeypatch
):
    commit = kept_scores.commit_folder

    def around_the_first_pod(*args):
        monkeypatch.setattr(kept_scores, "commit_folder", commit)
        assert pod(0).code == ExitCode.DONE
        commit(*args)
        raise Killed

    monkeypatch.setattr(kept_scores, "commit_folder", around_the_first_pod)
    with pytest.raises(Killed):
        pod(1)
    assert len(commits(bucket)) == 1
    listed = [f"{bucket.uri}/{CHECKPOINTS}"]
    assert update.run("collect", "g1-collect-1", collect={"delete": listed}).code == ExitCode.DONE
    assert not bucket.keys(CHECKPOINTS)


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_shard_in_the_bucket_is_made_again(pod, bucket, how, caplog):
    pod(1)
    damage(bucket, how, "0-predictions.npy")
    assert pod(0).code == ExitCode.DONE
    assert "damaged scores are made again" in caplog.text
    assert pod(0, pods=1, job="g1-evaluate-again-1").code == ExitCode.DONE
    assert metrics(bucket, "g1-evaluate-1") == metrics(bucket, "g1-evaluate-again-1")
