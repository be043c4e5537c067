"""Rows are tokenized in shards: by pods before the training, and the rest by the training."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from trainer import decoders
from trainer.damage import DAMAGES, damage
from trainer.training.conftest import PLAIN, World, freeze, tokenizer, toy_rows
from trainer.training.interrupting import whole_and_resumed
from trainer.training.sharded_rows import tokenizing, with_shards

from springtide_api.contract import ExitCode
from springtide_api.update.task import CausalLMOptions
from springtide_trainer.artifact import token_cache, tokens
from springtide_trainer.artifact.joined_tokens import JoinedTokens
from springtide_trainer.artifact.preprocess import Preprocess
from springtide_trainer.artifact.tokens import Widths
from springtide_trainer.errors import Refused
from springtide_trainer.progress import shown_by
from springtide_trainer.stages import runner
from springtide_trainer.stages.launcher import INDEX, ONE_NODE, Nodes, nodes_of
from springtide_trainer.storage import Home, local_path
from springtide_trainer.tasks.language.masked_tokens import CHOSEN
from springtide_trainer.tasks.language.response_tokens import MASK
from springtide_trainer.training.rows import token_shards
from springtide_trainer.training.rows.token_shards import Shards, Texts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from springtide_api.contract import RunFile

OPTIONS = {"epochs": 1, "batchSize": 16, "learningRate": "1e-3"}
ROWS, SIZE, PODS = 240, 50, 3
SHARDS = {0: [50, 50], 1: [50, 40], 2: [50]}
"""Rows of the shards of each pod."""


@pytest.fixture
def tokenized(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of each call of a tokenizer."""
    calls: list[int] = []
    encoded = tokens._encoded

    def counting(by: Any, chunk: Any, max_length: int) -> Any:
        calls.append(len(chunk))
        return encoded(by, chunk, max_length)

    monkeypatch.setattr(tokens, "_encoded", counting)
    return calls


def training(
    world: World, job: str = "shop-1-g1-train-1", *, size: int | None = SIZE, **options: Any
) -> RunFile:
    return with_shards(world.run_file(job, **{"hyperparameters": OPTIONS, **options}), size)


def pod(world: World, run: RunFile, rank: int, pods: int = PODS) -> runner.StageOutcome:
    """Run one of the pods that tokenize for a training."""
    asked = tokenizing(run, pods)
    return runner.run_stage(asked, world.home, f"pod-{rank}", nodes=Nodes(rank, pods))


def digest(outcome: runner.StageOutcome) -> str:
    assert outcome.code == ExitCode.DONE, outcome.result
    assert outcome.result.train is not None
    return outcome.result.train.artifact.digest


def kept(world: World) -> list[Path]:
    return sorted(world.home.checkpoints(1).glob("tokens-*"))


@pytest.fixture
def whole(world: World) -> str:
    """Digest of what is trained on the same rows without shards."""
    return digest(runner.run_stage(training(world, "whole-g1-train-1", size=None), world.home, "p"))


def of_pairs(folder: Path) -> tuple[Preprocess, str]:
    tokenizer().save_pretrained(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    columns: Any = {"text": "text", "text_pair": "text_pair"}
    return Preprocess(**columns, max_length=16, labels=["no", "yes"]), "token_type_ids"


def of_responses(folder: Path) -> tuple[Preprocess, str]:
    decoders.tokenizer(PLAIN, first=True).save_pretrained(folder)
    task: Any = {"task": "CausalLM", "causal_lm": CausalLMOptions()}
    return Preprocess(text="text", max_length=16, **task), MASK


def of_hidden_tokens(folder: Path) -> tuple[Preprocess, str]:
    tokenizer().save_pretrained(folder)
    task: Any = {"task": "MaskedLM"}
    return Preprocess(text="text", max_length=16, **task), CHOSEN


@pytest.mark.parametrize("kind", [of_pairs, of_responses, of_hidden_tokens])
def test_tokens_of_shards_are_those_of_one_cache(tmp_path, kind):
    rows = toy_rows(ROWS)
    rows["text_pair"] = toy_rows(ROWS, seed=1)["text"]
    rows["label"] = toy_rows(ROWS, seed=2)["text"]
    folder, known = freeze(Home(tmp_path / "home"), rows)
    for name in ("parent", "scratch"):
        (tmp_path / name).mkdir()
    preprocess, summed = kind(tmp_path / "parent")
    preprocess.write(tmp_path / "parent")
    texts = Texts.of(folder, known, preprocess, tmp_path / "parent")
    one = texts.tokens(tmp_path / "scratch", None)
    several = texts.tokens(tmp_path / "scratch", Shards(tmp_path / "room", SIZE))
    assert isinstance(several, JoinedTokens)
    assert [len(part.lengths) for part in several.parts] == [50, 50, 50, 50, 40]
    assert len({*one.lengths}) > 2, "some rows are cut and some are short"
    assert np.array_equal(several.lengths, one.lengths)
    assert one.sums(summed).sum() > 0
    assert np.array_equal(several.sums(summed), one.sums(summed))
    random = np.random.default_rng(0)
    for count in (1, 7, ROWS):
        rows = random.permutation(ROWS)[:count]
        found, wanted = (each.batch(rows, Widths(4, 16)) for each in (several, one))
        assert {*found} == {*wanted} > {"input_ids", "attention_mask"}
        assert all(found[name].equal(wanted[name]) for name in wanted)


@pytest.mark.parametrize("more", [{}, {"earlyStopping": {}}])
def test_a_training_in_shards_gives_the_weights_of_one_without(world, tokenized, more):
    expected = digest(
        runner.run_stage(training(world, "a-g1-train-1", size=None, **more), world.home, "p")
    )
    assert tokenized == [ROWS]
    shutil.rmtree(next(world.data[0].glob("tokens-*")))
    found = runner.run_stage(training(world, "b-g1-train-1", **more), world.home, "p")
    assert digest(found) == expected
    assert tokenized[1:] == [50, 50, 50, 50, 40]
    assert not [*world.data[0].glob("tokens-*")], "kept with the checkpoints, not with the rows"
    assert not world.home.checkpoints(1).exists()


def test_rows_that_fill_no_shard_are_tokenized_as_a_whole_beside_the_rows(world, tokenized):
    run = training(world, size=ROWS)
    assert pod(world, run, 0).code == ExitCode.DONE
    assert tokenized == []
    assert runner.run_stage(run, world.home, "p").code == ExitCode.DONE
    assert tokenized == [ROWS]
    assert len([*world.data[0].glob("tokens-*")]) == 1


def test_a_training_after_all_pods_in_any_order_tokenizes_nothing(world, whole, tokenized):
    run = training(world)
    for rank in (2, 0, 1):
        outcome = pod(world, run, rank)
        assert (outcome.code, outcome.result.ok, outcome.result.stage) == (0, True, "tokenize")
    assert tokenized == [*SHARDS[2], *SHARDS[0], *SHARDS[1]]
    assert len(kept(world)) == 5
    assert digest(runner.run_stage(run, world.home, "p")) == whole
    assert len(tokenized) == 5
    assert not world.home.checkpoints(1).exists()
    results = {path.stem for path in (world.home.path / "results").iterdir()}
    assert results == {"whole-g1-train-1", run.job}
    assert not [*(world.home.path / "tmp").iterdir()]


@pytest.mark.survives(
    "Jobs and pods",
    "some pods that tokenize for a training never run",
    "the training tokenizes only the shards that are not there; same weights",
)
def test_a_training_after_some_pods_tokenizes_only_the_rest(world, whole, tokenized):
    run = training(world)
    pod(world, run, 1)
    assert tokenized == SHARDS[1]
    assert digest(runner.run_stage(run, world.home, "p")) == whole
    assert sorted(tokenized[2:]) == sorted([*SHARDS[0], *SHARDS[2]])


@pytest.mark.survives(
    "Jobs and pods",
    "a pod that tokenizes for a training is killed, at any of its writes",
    "the one after it tokenizes what is not there; same weights",
)
@pytest.mark.parametrize("committed", [0, 1])
@pytest.mark.parametrize("after", [False, True])
def test_a_pod_that_is_killed_at_a_write_is_continued_by_the_next(
    world, whole, tokenized, monkeypatch, committed, after
):
    class Killed(BaseException):
        pass

    run, commit, calls = training(world), token_cache.commit_folder, []

    def dying(*args: Any) -> bool:
        calls.append(args)
        if len(calls) == committed + 1 and not after:
            raise Killed
        done: bool = commit(*args)
        if len(calls) == committed + 1:
            raise Killed
        return done

    with monkeypatch.context() as patched:
        patched.setattr(token_cache, "commit_folder", dying)
        with pytest.raises(Killed):
            pod(world, run, 0)
    there = committed + after
    assert len(kept(world)) == there
    tokenized.clear()
    pod(world, run, 0)
    assert tokenized == SHARDS[0][there:]
    assert digest(runner.run_stage(run, world.home, "p")) == whole
    assert sorted(tokenized[2 - there :]) == sorted([*SHARDS[1], *SHARDS[2]])


@pytest.mark.survives("Data", "damaged tokens of a shard", "they are made again; same weights")
@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_shard_is_made_again(world, whole, tokenized, caplog, how):
    run = training(world)
    for rank in range(PODS):
        pod(world, run, rank)
    damage(how, kept(world)[2] / "input_ids.bin", kept(world)[2] / token_cache.SIDECAR)
    tokenized.clear()
    assert digest(runner.run_stage(run, world.home, "p")) == whole
    assert "damaged token cache is made again" in caplog.text
    assert len(tokenized) == 1


@pytest.mark.survives(
    "Data",
    "no space for the tokens of a shard",
    "pods before the training end, and the training goes on with tokens in memory; same weights",
)
def test_without_space_pods_end_and_the_training_has_the_same_weights(
    world, whole, tokenized, monkeypatch, caplog
):
    run, write, calls = training(world), token_cache._write, []

    def full_from_the_second(*args: Any) -> None:
        calls.append(args)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        write(*args)

    monkeypatch.setattr(token_cache, "_write", full_from_the_second)
    assert pod(world, run, 0).code == ExitCode.DONE
    assert "the training tokenizes the rest" in caplog.text
    assert len(kept(world)) == 1
    assert digest(runner.run_stage(run, world.home, "p")) == whole
    assert tokenized == [50, 50, 50, 50, 40]
    assert "rows are tokenized in memory" in caplog.text


def test_shards_together_leave_as_much_space_as_they_take(world, monkeypatch, caplog):
    run = training(world)
    pod(world, run, 2)
    size = sum(path.stat().st_size for path in kept(world)[0].glob("*.bin"))
    shutil.rmtree(kept(world)[0])
    for free, expected in ((5 * size - 1, 0), (5 * size, 1)):
        disk = shutil.disk_usage("/")._replace(free=free)
        monkeypatch.setattr(token_cache.shutil, "disk_usage", lambda _, disk=disk: disk)
        assert pod(world, run, 2).code == ExitCode.DONE
        assert len(kept(world)) == expected


def late(world: World, run: RunFile, rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a pod that keeps its first shard after the training is over."""
    commit = token_cache.commit_folder

    def after_the_training(*args: Any) -> bool:
        monkeypatch.setattr(token_cache, "commit_folder", commit)
        digest(runner.run_stage(run, world.home, "p"))
        done: bool = commit(*args)
        return done

    monkeypatch.setattr(token_cache, "commit_folder", after_the_training)
    outcome = pod(world, run, rank)
    assert (outcome.code, outcome.result.stage) == (ExitCode.DONE, "tokenize")


@pytest.mark.survives(
    "Jobs and pods",
    "a pod that tokenizes for a training runs until that is over",
    "it ends well, and leaves nothing on the storage",
)
@pytest.mark.parametrize("swept", [False, True])
def test_a_pod_that_is_later_than_the_training_leaves_nothing(world, monkeypatch, swept, caplog):
    """In an object store, where its scratch folder is its own, it can keep what it has made."""
    if not swept:
        monkeypatch.setattr(Home, "sweep_tokenizing", lambda *_: None)
    late(world, training(world), 0, monkeypatch)
    assert ("token cache is not kept" in caplog.text) == swept
    assert not world.home.checkpoints(1).exists()
    assert not [*(world.home.path / "tmp").iterdir()]


def test_a_pod_that_starts_after_the_training_tokenizes_nothing(world, tokenized):
    run = training(world)
    digest(runner.run_stage(run, world.home, "p"))
    (world.home.checkpoints(1) / "tokens-left").mkdir(parents=True)
    (world.home.checkpoints(1) / "scores-of-the-evaluation").mkdir()
    tokenized.clear()
    assert pod(world, run, 0).result.stage == "tokenize"
    assert tokenized == []
    left = [folder.name for folder in world.home.checkpoints(1).iterdir()]
    assert left == ["scores-of-the-evaluation"]


@dataclass
class Sharded(World):
    """A world whose rows are tokenized in shards."""

    def run_file(self, job: str = "g1-train-1", *, divisor: int = 1, **options: Any) -> RunFile:
        return with_shards(super().run_file(job, divisor=divisor, **options), SIZE)


def test_shards_and_checkpoints_are_beside_each_other(world, tokenized, monkeypatch):
    """A resumed training tokenizes nothing again, and old checkpoints alone are removed."""
    sharded = Sharded(world.home, world.parent, world.data)
    options = {"hyperparameters": OPTIONS, "checkpoint": {"everySteps": 2, "keep": 1}}
    one, other = whole_and_resumed(sharded, options, monkeypatch)
    assert one.artifact.digest == other.artifact.digest
    assert tokenized == [50, 50, 50, 50, 40] * 2, "one of the three trainings resumes"
    names = [folder.name.partition("-")[0] for folder in world.home.checkpoints(1).iterdir()]
    assert sorted(names) == ["step"] + ["tokens"] * 5


def test_the_first_pod_reports_its_share_of_rows(world, monkeypatch):
    monkeypatch.setattr(token_shards, "CHUNK", 20)
    seen: list[Any] = []
    with shown_by(seen.append):
        pod(world, training(world), 1)
    assert [step.step for step in seen] == [10, 30, 50, 70, 90]
    assert {step.total for step in seen} == {90}


def test_pods_need_no_weights(world):
    """They can have many gigabytes, and each pod would read them."""
    parent = local_path(world.parent.uri)
    for path in parent.glob("*.safetensors"):
        path.unlink()
    assert pod(world, training(world), 0).code == ExitCode.DONE
    assert len(kept(world)) == 2


def other_tokenizer(world: World) -> None:
    path = local_path(world.parent.uri) / "tokenizer.json"
    path.write_text(path.read_text().replace('"good"', '"well"'))


def other_rows(world: World) -> None:
    (world.data[0] / "train.parquet").write_bytes(b"PAR1")


@pytest.mark.parametrize("change", [other_tokenizer, other_rows])
def test_what_does_not_match_its_digest_is_not_tokenized(world, change):
    change(world)
    outcome = pod(world, training(world), 0)
    assert outcome.code == ExitCode.INVALID_INPUT
    assert outcome.result.failure.reason in {"DigestMismatch", "CorruptRows"}
    assert not kept(world)


def test_a_run_file_without_the_block_is_refused(world):
    run = tokenizing(training(world), PODS).model_copy(update={"tokenize": None})
    outcome = runner.run_stage(run, world.home, "p")
    assert outcome.code == ExitCode.INVALID_INPUT
    assert "needs the block tokenize" in outcome.result.failure.message


def test_a_pod_without_a_number_is_refused_before_it_tokenizes(world):
    run = tokenizing(training(world), PODS)
    for known in ({}, {INDEX: "3"}, {INDEX: "one"}):
        with pytest.raises(Refused, match="in one of 3 pods of stage tokenize"):
            nodes_of(run, known)
    assert nodes_of(run, {INDEX: "2"}) == Nodes(2, 3)
    assert nodes_of(tokenizing(training(world), 1), {}) == ONE_NODE


def test_rows_are_cut_into_at_most_so_many_shards(tmp_path):
    def cut(rows: int, size: int = 1000) -> list[range]:
        return Shards(tmp_path, size).cut(rows)

    assert cut(0) == cut(1000) == []
    assert cut(1001) == [range(1000), range(1000, 1001)]
    many: Callable[[int], list[range]] = lambda shards: cut(1000 * shards)  # noqa: E731
    assert len(many(token_shards.MOST)) == token_shards.MOST
    larger = many(token_shards.MOST + 1)
    assert (len(larger), larger[0], larger[-1].stop) == (513, range(2000), 1_025_000)
    assert sum(map(len, larger)) == 1_025_000
