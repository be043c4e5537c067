"""`springtide-trainer run`: windows, verdicts, exit codes, output."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
import yaml
from trainer.local.conftest import deliver

from springtide_api.contract import ExitCode, Failure, Result
from springtide_api.update.task import RankingOptions
from springtide_trainer.local import local_stages
from springtide_trainer.local.lineage import Generations
from springtide_trainer.local.manifest_file import Places, read
from springtide_trainer.local.run import rows_of_a_pass
from springtide_trainer.stages.runner import StageOutcome
from springtide_trainer.storage import local_path


def test_an_accepted_run_moves_the_cursor_and_the_next_one_continues_from_it(laptop, capsys):
    assert laptop.run("--through", "2026-03-01") == 0
    first = capsys.readouterr().out
    assert laptop.run() == 0
    second = capsys.readouterr().out

    imported, one, two = laptop.generations()
    assert imported.artifact.head == "Seeded"
    assert (one.verdict, one.reason, one.baseline) == ("Accepted", "NoBaseline", None)
    assert (one.window.partitions, one.window.holdout_partitions) == (["2026-01"], ["2026-02"])
    # The newest month, April, is not read: the next run of the cluster is evaluated on it.
    assert (two.parent, two.baseline, two.window.from_) == (1, 1, one.window.to)
    assert (two.window.partitions, two.window.holdout_partitions) == (["2026-02"], ["2026-03"])
    assert two.reason == "RulesPassed"
    assert one.scores
    assert (local_path(two.report) / "report.html").exists()
    assert "probe: 120 training rows (2026-01), 120 holdout rows of 40 entities (2026-02)" in first
    assert "train: step 15 of 15, 100 %, loss " in first
    assert (
        "evaluate: row 120 of 120, 100 %\nevaluate: g1 on 120 rows of 40 entities, no baseline"
        in first
    )
    assert "evaluate: row 240 of 240, 100 %\nevaluate: g2 on" in second
    header = "rule             metric  candidate  baseline  delta"
    assert header in second
    assert "Accepted g2, RulesPassed" in second
    assert "report.html\nthe next run continues from g2: rows from 2026-03-01 00:00 UTC" in second
    assert "\x1b" not in first + second


def test_a_rejected_candidate_has_exit_code_1_and_its_verdict_stands(laptop, capsys):
    for month in (3, 4):
        deliver(laptop.data, month, flipped=True)
    assert laptop.run("--through", "2026-03-01") == 0
    laptop.write(learningRate="1e-9")
    capsys.readouterr()

    assert laptop.run("--through", "2026-05-01") == 1
    out = capsys.readouterr().out
    rejected = laptop.generations()[-1]
    assert rejected.verdict in {"Rejected", "Inconclusive"}
    assert f"{rejected.verdict} g2, {rejected.reason}\n  " in out

    assert laptop.run("--through", "2026-05-01") == 1
    again = capsys.readouterr().out
    assert "g2 had the same rows, recipe and weights; its verdict stands" in again
    assert "train: started" not in again
    assert len(laptop.generations()) == 3


def test_rows_in_shards_are_tokenized_by_the_one_process_that_trains(laptop, capsys):
    digests = []
    for path in laptop.data.iterdir():
        header, *rows = path.read_text().splitlines(keepends=True)
        path.write_text(header + "".join(rows * 9))
    for size in (None, 1000):
        laptop.write(maxSteps=6)
        manifest = yaml.safe_load(laptop.manifest.read_text())
        manifest["spec"]["data"]["window"] = {"rowsPerShard": size} if size else {}
        laptop.manifest.write_text(json.dumps(manifest))
        assert laptop.run("--through", "2026-03-01") == 0
        assert "probe: 1,080 training rows" in capsys.readouterr().out
        assert not [*laptop.home.glob("checkpoints/*")]
        digests.append(laptop.generations()[1].artifact.digest)
        whole = [*laptop.home.glob("data/*/tokens-*")]
        assert len(whole) == (2 if size is None else 0), "of training rows and holdout"
        laptop.home.rename(laptop.folder / f"shards-{size}")
    assert digests[0] == digests[1]


def test_a_refusal_has_the_exit_code_of_its_stage_and_names_the_field(laptop, capsys):
    (laptop.data / "2026-01.csv").write_text("ts,customer,item,lable\n2026-01-01,c,x,1\n")
    assert laptop.run("--through", "2026-03-01") == ExitCode.INVALID_INPUT
    assert "error: probe: MissingColumn: " in capsys.readouterr().err

    deliver(laptop.data, 1)
    assert laptop.run("--through", "2026-02-01") == ExitCode.TOO_LITTLE_DATA
    out = capsys.readouterr().out
    assert "no run, NotComplete: 1 of 2 complete partitions" in out
    assert "2026-02 ends after 2026-02-01T00:00:00+00:00 and is not read" in out

    exclude = ("--through", "2026-03-01", "--exclude-generation", "6")
    assert laptop.run(*exclude) == ExitCode.INVALID_INPUT
    assert "no column says which generation served a row" in capsys.readouterr().err
    laptop.write(columns={"servedGeneration": "served_by"})
    for path in laptop.data.iterdir():
        header, *rows = path.read_text().splitlines()
        by = [f"{row},{6 if path.name == '2026-01.csv' else 5}" for row in rows]
        path.write_text("\n".join([f"{header},served_by", *by, ""]))
    assert laptop.run(*exclude) == ExitCode.TOO_LITTLE_DATA
    assert "; 120 rows that were served before a rollback are left out" in capsys.readouterr().out

    laptop.model = laptop.folder / "absent"
    assert laptop.run() == ExitCode.INVALID_INPUT
    refusal = f"error: MissingModel: {laptop.model} does not exist; name another"
    assert f"{refusal} (spec.model.initial.uri)" in capsys.readouterr().err


def test_a_storage_that_cannot_be_used_is_refused_before_anything_runs(laptop, capsys):
    taken = laptop.folder / "taken"
    taken.write_text("")
    assert laptop.run("--storage", str(taken)) == ExitCode.ENVIRONMENT
    assert "Not a directory; use another --storage" in capsys.readouterr().err

    laptop.home.mkdir(parents=True)
    with (laptop.home / "run.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert laptop.run() == ExitCode.ENVIRONMENT
    assert "error: StorageInUse: another run uses" in capsys.readouterr().err

    (laptop.home / "local.json").write_text("{")
    assert laptop.run() == ExitCode.INVALID_INPUT
    assert "local.json is damaged; restore it" in capsys.readouterr().err


def test_ctrl_c_saves_a_checkpoint_and_the_same_command_continues(laptop, minilm):
    laptop.model = minilm  # it trains for seconds, in which the signal comes
    laptop.write(learningRate="2e-4", epochs=4, batchSize=4)
    command = [sys.executable, "-m", "springtide_trainer", *laptop.arguments()]
    command += ["--through", "2026-03-01"]
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as running:
        for line in running.stdout:
            if line.startswith("train: step"):
                running.send_signal(signal.SIGINT)
                break
        out = running.stdout.read()
    assert running.returncode == 128 + signal.SIGINT, out
    assert "train: interrupted; the same command continues from here" in out
    assert [*(laptop.home / "checkpoints" / "g1").iterdir()]

    laptop.home.joinpath("run.log").write_text("")
    done = subprocess.run(command, capture_output=True, text=True, env=environ, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "g1 continues; its window is that of its first start" in done.stdout
    assert "probe: " not in done.stdout
    assert '"message": "resumed"' in (laptop.home / "run.log").read_text()


@pytest.mark.parametrize("flag", ["--through", "--quarantine", "--exclude-generation", "--dataset"])
def test_a_wrong_argument_has_exit_code_2(laptop, flag, capsys):
    with pytest.raises(SystemExit) as ended:
        laptop.run(flag, "someday")
    assert ended.value.code == 2
    assert "someday" in capsys.readouterr().err


def test_where_memory_runs_out_the_run_continues_with_smaller_passes(laptop, capsys, monkeypatch):
    divisors = []
    run_stage = local_stages.run_stage

    def short_of_memory(run, home, pod_uid):
        if run.stage != "train":
            return run_stage(run, home, pod_uid)
        divisors.append(run.train.batch_divisor)
        if run.train.batch_divisor == 4:
            return run_stage(run, home, pod_uid)
        failure = Failure(reason="OutOfMemory", message="out of memory; lower batchSize")
        result = Result(job=run.job, stage="train", number=run.number, ok=False, failure=failure)
        return StageOutcome(result, ExitCode.OUT_OF_MEMORY)

    monkeypatch.setattr(local_stages, "run_stage", short_of_memory)
    assert laptop.run("--through", "2026-03-01") == 0
    assert divisors == [1, 2, 4]
    assert "out of memory; g1 continues with half the rows a pass" in capsys.readouterr().out
    assert laptop.generations()[-1].batch_divisor == 4


def test_where_memory_runs_out_an_evaluation_is_repeated_with_smaller_passes(
    laptop, capsys, monkeypatch
):
    divisors = []
    run_stage = local_stages.run_stage

    def short_of_memory(run, home, pod_uid):
        if run.stage != "evaluate":
            return run_stage(run, home, pod_uid)
        divisors.append(run.evaluate.batch_divisor)
        if run.evaluate.batch_divisor == 4:
            return run_stage(run, home, pod_uid)
        failure = Failure(reason="OutOfMemory", message="out of memory; lower maxLength")
        result = Result(job=run.job, stage="evaluate", number=run.number, ok=False, failure=failure)
        return StageOutcome(result, ExitCode.OUT_OF_MEMORY)

    monkeypatch.setattr(local_stages, "run_stage", short_of_memory)
    assert laptop.run("--through", "2026-03-01") == 0
    assert divisors == [1, 2, 4]
    assert "out of memory; g1 is scored with half the rows a pass" in capsys.readouterr().out


def test_another_folder_of_the_model_is_named_as_not_read(laptop, capsys):
    for _ in range(2):
        assert laptop.run("--through", "2026-02-01") == ExitCode.TOO_LITTLE_DATA
        assert "warning" not in capsys.readouterr().out
    first, other = laptop.model, laptop.folder / "other"
    shutil.copytree(first, other)
    laptop.model = other

    assert laptop.run("--through", "2026-02-01") == ExitCode.TOO_LITTLE_DATA

    uris = first.resolve().as_uri(), other.as_uri()
    said = f"warning: g0 was imported from {uris[0]}, and {uris[1]} is not read; for another model"
    assert said in capsys.readouterr().out


def test_frozen_rows_are_found_in_a_storage_that_was_moved(laptop, capsys, monkeypatch):
    manifest = yaml.safe_load(laptop.manifest.read_text())
    manifest["spec"]["data"]["reserve"] = {"fraction": "0.3"}
    datasets = [{"name": "holdout", "role": "Holdout"}, {"name": "past", "role": "Historical"}]
    manifest["spec"]["evaluation"] = {"datasets": datasets}
    laptop.manifest.write_text(json.dumps(manifest))
    assert laptop.run("--through", "2026-03-01") == 0
    run_stage = local_stages.run_stage

    def full_disk(run, home, pod_uid):
        if run.stage != "train":
            return run_stage(run, home, pod_uid)
        failure = Failure(reason="DiskFull", message="no space left on the storage")
        result = Result(job=run.job, stage="train", number=run.number, ok=False, failure=failure)
        return StageOutcome(result, ExitCode.ENVIRONMENT)

    with monkeypatch.context() as patched:
        patched.setattr(local_stages, "run_stage", full_disk)
        assert laptop.run() == ExitCode.ENVIRONMENT
    moved = laptop.folder / "a folder of mine"
    (laptop.folder / "springtide").rename(moved)

    assert laptop.run("--storage", str(moved)) in {0, 1}, capsys.readouterr()

    assert "g2 continues; its window is that of its first start" in capsys.readouterr().out
    two = Generations.read(moved / "shop" / "recommender").generations[2]
    results = json.loads((local_path(two.report) / "metrics.json").read_text())
    (past,) = [each for each in results["datasets"] if each["name"] == "past"]
    assert past["rows"] > 0


def test_the_passes_of_ranking_are_bounded_by_the_rows_of_a_group(laptop):
    recipe = read(laptop.manifest, Places(laptop.data, laptop.model)).recipe
    assert rows_of_a_pass(recipe) == 8
    ranking = RankingOptions(gains={"0": "0", "1": "1"}, max_group_rows=64)
    model = recipe.model.model_copy(update={"task": "Ranking", "ranking": ranking})
    assert rows_of_a_pass(recipe.model_copy(update={"model": model})) == 64


def test_a_local_run_is_evaluated_in_the_optimized_form_and_continues_from_the_weights(
    laptop, minilm
):
    laptop.model = minilm  # whose weights are most of its form
    laptop.write(learningRate="2e-4")
    assert laptop.run("--through", "2026-03-01") == 0
    manifest = yaml.safe_load(laptop.manifest.read_text())
    manifest["spec"]["serving"] = {"optimise": {"quantization": "Int8Dynamic"}}
    laptop.manifest.write_text(json.dumps(manifest))
    assert laptop.run() == 0

    _, one, two = laptop.generations()
    assert one.artifact.served is None
    assert two.reason == "RulesPassed"
    assert two.artifact.served.bytes < one.artifact.bytes / 3.5
    written = json.loads((local_path(two.report) / "metrics.json").read_text())
    assert written["candidate"]["digest"] == two.artifact.served.digest
    assert written["baseline"]["digest"] == one.artifact.digest
