"""Evaluations in shards: pods share the rows, and what one of them scored is not scored again."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from forks import Fork
from trainer.damage import DAMAGES, damage
from trainer.evaluation.conftest import Shop, in_shards, make_model, rows_of, with_window, write_csv

from springtide_api.contract import EvaluateOutput, ExitCode, Result, RunFile
from springtide_trainer.artifact.models import load
from springtide_trainer.errors import Refused
from springtide_trainer.evaluation import kept_scores, scoring, shards
from springtide_trainer.evaluation.compared_models import ComparedModels
from springtide_trainer.evaluation.datasets import read_dataset
from springtide_trainer.progress import INTERVAL, shown_by
from springtide_trainer.stages import evaluate, runner
from springtide_trainer.stages.launcher import INDEX, ONE_NODE, Nodes, nodes_of
from springtide_trainer.storage import Home, local_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PODS = 3
MODELS = 2
SHARDS = 4
"""Those of the holdout; the last one is short."""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    folder = tmp_path_factory.mktemp("large")
    home = Home(folder / "home")
    knowing, other = (make_model(home, seed, ["no", "yes"]) for seed in (1, 2))
    source = write_csv(folder / "clicks.csv", rows_of(home, knowing, ["no", "yes"], 7200))
    bare = Shop(home, source, None, knowing, other)  # type: ignore[arg-type]
    made = with_window(bare, "2026-06-01T00:00:00Z")
    assert -(-made.window.holdout_rows // 1000) == SHARDS
    return made


def asked(shop: Shop, job: str, *, pods: int = PODS, size: int | None = 1000) -> RunFile:
    """The run file of an attempt at an evaluation; those of one result have one name."""
    run = in_shards(shop.run(shop.knowing, shop.other, job=job), size, pods)
    return run.model_copy(update={"result": job.rpartition("-")[0]})


def pod(shop: Shop, run: RunFile, rank: int = 0) -> runner.StageOutcome:
    assert run.evaluate is not None
    nodes = Nodes(rank, run.evaluate.pods) if run.evaluate.pods > 1 else ONE_NODE
    return runner.run_stage(run, shop.home, f"pod-{rank}", nodes=nodes)


def output(outcome: runner.StageOutcome) -> EvaluateOutput:
    assert outcome.code == ExitCode.DONE, outcome.result
    assert outcome.result.evaluate is not None
    return outcome.result.evaluate


def kept(shop: Shop) -> list[Path]:
    return sorted(shop.home.checkpoints(2).glob("scores-*"))


def scores(shop: Shop, made: EvaluateOutput) -> dict[str, Any]:
    """The scores as bytes, and all metrics, of a report."""
    report = shop.report(made)
    table = pq.read_table(report / "scores.parquet")
    written = json.loads((report / "metrics.json").read_text())
    columns = {name: np.array(table[name].to_pylist()) for name in ("candidate", "baseline")}
    return columns | {"rules": made.rules, "datasets": written["datasets"]}


def equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    same = (one["rules"], one["datasets"]) == (other["rules"], other["datasets"])
    return same and all((one[name] == other[name]).all() for name in ("candidate", "baseline"))


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of each call that scores rows with a model."""
    calls: list[int] = []

    def counting(*args: Any, rows: Any, **known: Any) -> Any:
        calls.append(len(rows))
        return predict(*args, rows=rows, **known)

    predict = scoring.predict
    monkeypatch.setattr(scoring, "predict", counting)
    return calls


@pytest.fixture(scope="module")
def expected(large: Shop) -> Iterator[dict[str, Any]]:
    """What one pod makes of the same shards."""
    yield scores(large, output(pod(large, asked(large, "one-1", pods=1))))
    assert not kept(large), "deleted once the result is committed"


def test_several_pods_give_the_scores_of_one_bit_for_bit(large, expected, forwards):
    run = asked(large, "several-1")
    for rank in (2, 1):
        outcome = pod(large, run, rank)
        assert (outcome.code, outcome.result.ok, outcome.result.evaluate) == (0, True, None)
    assert len(kept(large)) == 2
    scored = len(forwards)
    assert scored == 2 * MODELS
    assert equal(scores(large, output(pod(large, run))), expected)
    assert len(forwards) == SHARDS * MODELS
    assert not kept(large)


def test_without_shards_the_scores_differ_by_the_rounding_of_other_batches(large, expected):
    whole = scores(large, output(pod(large, asked(large, "whole-1", pods=1, size=None))))
    for name in ("candidate", "baseline"):
        np.testing.assert_allclose(whole[name], expected[name], atol=1e-6)
    for one, other in zip(whole["rules"], expected["rules"], strict=True):
        assert one[0] == other[0]
        assert one[1:] == pytest.approx(other[1:], abs=2e-4)


@pytest.mark.parametrize("size", [None, 1000], ids=["whole", "shards"])
def test_passes_have_fewer_rows_after_memory_ran_out(large, expected, monkeypatch, size):
    rows: set[int] = set()

    def counting(*args: Any, batch_size: int, **known: Any) -> Any:
        rows.add(batch_size)
        return predict(*args, batch_size=batch_size, **known)

    predict = scoring.predict
    monkeypatch.setattr(scoring, "predict", counting)
    run = asked(large, f"halved-{size or 0}-1", pods=1, size=size)
    assert run.evaluate is not None
    given = run.evaluate.model_copy(update={"batch_divisor": 4})
    made = scores(large, output(pod(large, run.model_copy(update={"evaluate": given}))))
    assert rows == {scoring.BATCH["cpu"] // 4}
    for name in ("candidate", "baseline"):
        np.testing.assert_allclose(made[name], expected[name], atol=1e-6)


def test_the_first_pod_finishes_alone_where_the_others_have_no_node(large, expected, forwards):
    assert equal(scores(large, output(pod(large, asked(large, "alone-1")))), expected)
    assert sum(forwards) == large.window.holdout_rows * MODELS


def test_a_pod_with_nothing_left_to_score_loads_no_model(large, monkeypatch):
    run = asked(large, "nothing-1")
    pod(large, run, 1)
    monkeypatch.setattr(ComparedModels, "load", pytest.fail)
    assert pod(large, run, 1).code == ExitCode.DONE
    for left in kept(large):
        left.rename(large.home.path / "tmp" / left.name)


@pytest.mark.survives(
    "Jobs and pods",
    "a pod of an evaluation in shards is killed, at any of its writes",
    "the next attempt scores only the shards that are not there; same scores",
)
def test_a_pod_that_is_killed_at_any_write_is_continued_by_the_next_attempt(
    large, expected, forwards, monkeypatch
):
    class Killed(BaseException):
        pass

    def until(left: int) -> Callable[..., bool]:
        """Commit so many times; then die before a commit, or after it."""
        count = 0

        def commit(*args: Any, before: Any = kept_scores.commit_folder) -> bool:
            nonlocal count
            count += 1
            if 2 * count == left + 1:
                raise Killed
            done: bool = before(*args)
            if 2 * count == left:
                raise Killed
            return done

        return commit

    for writes in range(1, 2 * (SHARDS + 1) + 1):
        name = f"killed{writes}"
        with monkeypatch.context() as patched:
            dying = until(writes)
            for module in (kept_scores, evaluate):
                patched.setattr(module, "commit_folder", dying)
            with pytest.raises(Killed):
                pod(large, asked(large, f"{name}-1", pods=1))
        there = len(kept(large))
        assert there == min(writes // 2, SHARDS)
        forwards.clear()
        again = output(pod(large, asked(large, f"{name}-2", pods=1)))
        assert len(forwards) == (SHARDS - there) * MODELS
        assert equal(scores(large, again), expected)


@pytest.mark.survives(
    "Jobs and pods", "the scores of a shard are damaged", "they are made again; same scores"
)
@pytest.mark.parametrize("how", DAMAGES)
def test_damaged_scores_of_a_shard_are_made_again(large, expected, forwards, caplog, how):
    run = asked(large, f"{how.replace(' ', '')}-1")
    pod(large, run, 1)
    (folder,) = kept(large)
    damage(how, folder / "1-predictions.npy", folder / kept_scores.SIDECAR)
    assert equal(scores(large, output(pod(large, run))), expected)
    assert "damaged scores are made again" in caplog.text
    assert len(forwards) == (SHARDS + 1) * MODELS


def test_no_flipped_bit_of_a_sidecar_gives_other_scores(large, tmp_path):
    key = kept_scores.Key("sha256:1/Holdout", 3, ("sha256:2",), "")
    room = kept_scores.KeptScores(tmp_path / "room", tmp_path)
    made = [scoring.Scored(np.arange(6, dtype=np.float32).reshape(3, 2), None)]
    room.commit(key, made)
    sidecar = tmp_path / "room" / key.folder / kept_scores.SIDECAR
    content = sidecar.read_bytes()
    for place, bit in ((place, 1 << place % 7) for place in range(len(content))):
        sidecar.write_bytes(content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :])
        if (found := room.read(key)) is None:
            room.commit(key, made)
        else:
            assert (found[0].predictions == made[0].predictions).all()


def sharing(shop: Shop, tmp: Path, load: Any, **known: Any) -> shards.ShardScorer:
    """What scores the holdout of a shop in shards, with its two models."""
    run = asked(shop, "sharing-1")
    assert run.evaluate is not None
    dataset = read_dataset(run.recipe.evaluation.datasets[0], run.evaluate, run.recipe)
    room = kept_scores.KeptScores(tmp / "room", tmp)
    parts = shards.cut([dataset], [[shop.knowing.digest, shop.other.digest]], 1000)
    return shards.ShardScorer(parts, room, load, reporter=None, **known)


def test_the_first_pod_leaves_a_shard_that_its_own_pod_has_scored_meanwhile(
    large, tmp_path, forwards
):
    loaded = {
        made.digest: load(local_path(made.uri), made.digest)
        for made in (large.knowing, large.other)
    }
    others = sharing(large, tmp_path, loaded.__getitem__)

    def while_the_others_score(digest: str) -> Any:
        if len(list((tmp_path / "room").iterdir())) == 1:
            others.score_own(0, 1)
        return loaded[digest]

    passed = iter(INTERVAL * np.arange(10_000))
    sharing(large, tmp_path, loaded.__getitem__).score_own(0, SHARDS)
    first = sharing(large, tmp_path, while_the_others_score, clock=lambda: next(passed))
    forwards.clear()
    found = first.score_rest()
    assert sum(len(each[0].predictions) for each in found) == large.window.holdout_rows
    assert len(forwards) == (SHARDS - 1) * MODELS + 1, "it left in the pass of the first model"


def test_the_first_pod_looks_for_the_scores_of_a_shard_only_where_there_are_some(
    large, tmp_path, monkeypatch
):
    """In an object store each look is a request: for all shards after each, they would be 500,000
    for 1000 shards."""
    loaded = {
        made.digest: load(local_path(made.uri), made.digest)
        for made in (large.knowing, large.other)
    }
    looks: list[kept_scores.Key] = []
    read = kept_scores.KeptScores.read

    def counting(self: Any, key: kept_scores.Key) -> Any:
        looks.append(key)
        return read(self, key)

    monkeypatch.setattr(kept_scores.KeptScores, "read", counting)
    sharing(large, tmp_path, loaded.__getitem__).score_rest()
    assert len(looks) == len(set(looks)) == SHARDS


def test_the_first_pod_reports_the_rows_that_all_pods_have_scored(large):
    run, seen = asked(large, "progress-1"), []
    pod(large, run, 1)
    pod(large, run, 2)
    with shown_by(seen.append):
        pod(large, run)
    rows = large.window.holdout_rows * MODELS
    assert {step.total for step in seen} == {rows}
    assert seen[0].first == 2 * 1000 * MODELS
    assert seen[0].first < seen[0].step <= seen[0].first + 32
    assert seen[-1].step == rows


def test_pods_that_run_at_once_share_the_shards_and_the_first_has_the_result(
    large, expected, tmp_path
):
    run = asked(large, "atonce-1")
    path = tmp_path / "run.json"
    path.write_text(run.model_dump_json(by_alias=True, exclude_none=True))
    started = []
    for rank in range(PODS):
        environ = {
            **os.environ,
            INDEX: str(rank),
            "SPRINGTIDE_RUN_FILE": str(path),
            "SPRINGTIDE_POD_UID": f"pod-{rank}",
            "SPRINGTIDE_TERMINATION_LOG": str(tmp_path / f"{rank}.json"),
        }
        started.append(Fork("springtide_trainer.__main__", environ, tmp_path / f"{rank}.log"))
    assert [each.wait() for each in started] == [0] * PODS, (tmp_path / "0.log").read_text()
    results = [Result.model_validate_json((tmp_path / f"{n}.json").read_bytes()) for n in (0, 1, 2)]
    made = results[0].evaluate
    assert made is not None
    assert all(each.ok and each.job == run.job for each in results)
    assert equal(scores(large, made), expected)


@pytest.mark.survives(
    "Jobs and pods",
    "a pod of an evaluation in shards is so late that the first one has the result before it",
    "it ends well, and leaves nothing on the storage",
)
def test_a_pod_that_scored_in_vain_ends_well_and_leaves_nothing(large, monkeypatch):
    run, commit = asked(large, "vain-1"), kept_scores.commit_folder

    def after_the_first_pod(*args: Any) -> bool:
        monkeypatch.setattr(kept_scores, "commit_folder", commit)
        output(pod(large, run))
        done: bool = commit(*args)
        return done

    monkeypatch.setattr(kept_scores, "commit_folder", after_the_first_pod)
    assert pod(large, run, 1).code == ExitCode.DONE
    assert not kept(large)
    assert not list((large.home.path / "tmp").glob("vain-*"))


def test_a_pod_without_a_number_is_refused_before_it_scores(large):
    run = asked(large, "number-1")
    for known in ({}, {INDEX: "3"}, {INDEX: "one"}):
        with pytest.raises(Refused, match="in one of 3 pods of stage evaluate"):
            nodes_of(run, known)
    assert nodes_of(run, {INDEX: "2"}) == Nodes(2, 3)
