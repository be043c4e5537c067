"""Pods that tokenize for a training in an object store share nothing but the bucket."""

from __future__ import annotations

import pytest
from trainer.objects.conftest import CHECKPOINTS, DAMAGES, NOW, commits, damage, training
from trainer.training.sharded_rows import tokenizing, with_shards

from springtide_api.contract import ExitCode
from springtide_trainer.artifact import token_cache, tokens
from springtide_trainer.stages.launcher import Nodes
from springtide_trainer.stages.runner import opened, run_stage

pytestmark = pytest.mark.object_store

PODS, SIZE, SHARDS = 2, 50, 5
JOB = "shop-1-g1-train-1"


@pytest.fixture
def asked(update, deliver, published_model):
    """The run file of a training of 240 rows in shards of 50."""
    deliver(1, 2, 3)
    made = update.run("import", "g0-import-1", **{"import": {"uri": published_model}})
    window = update.run("probe", "probe-1", probe=NOW).result.probe.window
    assert -(-window.rows // SIZE) == SHARDS, window.rows

    def of(job: str, size: int | None = SIZE):
        block = training(update, made.result.imported, window)
        return with_shards(update.run_file("train", job, **block), size)

    return of


@pytest.fixture
def tokenized(monkeypatch) -> list[int]:
    """Rows of each call of a tokenizer."""
    calls: list[int] = []
    encoded = tokens._encoded

    def counting(by, chunk, max_length):
        calls.append(len(chunk))
        return encoded(by, chunk, max_length)

    monkeypatch.setattr(tokens, "_encoded", counting)
    return calls


def pod(run, rank: int, pods: int = PODS):
    """Run a pod that tokenizes for a training."""
    before = tokenizing(run, pods)
    with opened(before, f"pod-{rank}") as home:
        return run_stage(before, home, f"pod-{rank}", nodes=Nodes(rank, pods))


def trained(run) -> str:
    """Train in a pod of its own; return the digest of the weights."""
    with opened(run, "pod-train") as home:
        outcome = run_stage(run, home, "pod-train")
    assert outcome.code == ExitCode.DONE, outcome.result
    return outcome.result.train.artifact.digest


def test_pods_share_shards_through_the_bucket_and_leave_none(asked, bucket, tokenized):
    expected = trained(asked("shop-1-g1-train-whole-1", None))
    tokenized.clear()
    run = asked(JOB)
    assert pod(run, 1).code == ExitCode.DONE
    assert len(tokenized) == len(commits(bucket)) == 2
    assert pod(run, 1).code == ExitCode.DONE
    assert len(tokenized) == 2, "a pod that runs again finds what it has kept"
    assert trained(run) == expected
    assert len(tokenized) == SHARDS
    assert not bucket.keys(CHECKPOINTS)


def test_a_pod_copies_no_weights(asked, bucket):
    (weights,) = (key for key in bucket.keys("storage") if key.endswith("model.safetensors"))
    bucket.store.delete([weights])
    assert pod(asked(JOB), 1).code == ExitCode.DONE
    assert len(commits(bucket)) == 2


def test_a_pod_that_is_later_than_the_training_leaves_nothing(asked, bucket, monkeypatch):
    commit, run = token_cache.commit_folder, asked(JOB)

    def after_the_training(*args):
        monkeypatch.setattr(token_cache, "commit_folder", commit)
        trained(run)
        return commit(*args)

    monkeypatch.setattr(token_cache, "commit_folder", after_the_training)
    assert pod(run, 1).code == ExitCode.DONE
    assert not bucket.keys(CHECKPOINTS)


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_shard_in_the_bucket_is_made_again(asked, bucket, tokenized, how, caplog):
    expected = trained(asked("shop-1-g1-train-whole-1", None))
    run = asked(JOB)
    pod(run, 1)
    damage(bucket, how, "input_ids.bin")
    tokenized.clear()
    assert trained(run) == expected
    assert "damaged token cache is made again" in caplog.text
    assert len(tokenized) == SHARDS - 1
