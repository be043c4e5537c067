"""TensorBoard, MLflow and Weights & Biases themselves, without a network: files are read back."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from springtide_trainer.tracking.tracker import Point, TrackedRun

if TYPE_CHECKING:
    from collections.abc import Callable

    from springtide_trainer.tracking.tracker import Tracker

LOSS, RATE = "train/loss", "train/learning_rate"


@pytest.fixture
def run(tmp_path: Path, monkeypatch) -> TrackedRun:
    for name in ("MLFLOW_TRACKING_URI", "WANDB_API_KEY", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    parameters = {"task": "Classification", "ranking.gains.très bon+": "3"}
    return TrackedRun(
        "shop/ranker",
        "g1-0123abcd",
        "ranker g1",
        tmp_path / "home" / "tracking",
        tmp_path / "scratch",
        parameters=parameters,
    )


def points(*steps: int, of: float = 1.0) -> list[Point]:
    return [
        point
        for step in steps
        for point in (Point(step, LOSS, of / step, 100.0 + step), Point(step, RATE, 1e-3, 100.0))
    ]


def interrupted_and_resumed(
    connect: Callable[[TrackedRun], Tracker], run: TrackedRun, *, pause: float = 0.0
) -> None:
    """Two pods: the first one reports four steps, the second one repeats from the third on."""
    first = connect(run)
    first.log(points(1, 2))
    first.log(points(3, 4, of=9.0))
    first.close("interrupted")
    time.sleep(pause)
    second = connect(replace(run, first=2))
    second.log(points(3, 4, 5))
    second.close("finished")
    time.sleep(pause)
    scores = connect(replace(run, parameters={}))
    scores.log([Point(1, "gate/ndcg@10/candidate", 0.7, 200.0)])
    scores.close("finished")


def test_tensorboard_shows_one_curve_without_what_the_resumed_run_repeats(run):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from springtide_trainer.tracking.tensorboard import TensorBoard

    interrupted_and_resumed(TensorBoard, run)
    folder = run.folder / "tensorboard" / "g1-0123abcd"
    read = EventAccumulator(str(folder)).Reload()
    assert [(each.step, each.value) for each in read.Scalars(LOSS)] == [
        (step, pytest.approx(1 / step)) for step in (1, 2, 3, 4, 5)
    ]
    assert [each.value for each in read.Scalars("gate/ndcg@10/candidate")] == [pytest.approx(0.7)]
    assert "parameters/text_summary" in read.Tags()["tensors"]


def test_tensorboards_files_are_uploaded_where_the_storage_is_an_object_store(run, monkeypatch):
    pytest.importorskip("tensorboard")
    from springtide_trainer.tracking import tensorboard

    uploaded = []

    def replace_file(tmp: Path, final: Path) -> None:
        uploaded.append(final)
        tmp.unlink()

    monkeypatch.setattr(tensorboard, "replace_file", replace_file)
    made = tensorboard.TensorBoard(replace(run, on_claim=False))
    made.log(points(1))
    assert not uploaded
    made.close("finished")
    (final,) = uploaded
    assert final.parent == run.folder / "tensorboard" / "g1-0123abcd"
    assert not run.folder.exists()


def test_mlflow_goes_on_in_the_same_run_and_keeps_each_step_once(run):
    pytest.importorskip("mlflow")
    from springtide_trainer.tracking.mlflow import MLflow

    interrupted_and_resumed(MLflow, run)
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=(run.folder / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("shop/ranker")
    (found,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(found.info.run_id, LOSS)
    assert sorted(each.step for each in history) == [1, 2, 3, 4, 5]
    assert (found.info.status, found.info.run_name) == ("FINISHED", "ranker g1")
    assert found.data.metrics["gate/ndcg_10/candidate"] == 0.7
    assert found.data.params == {"task": "Classification", "ranking.gains.très bon_": "3"}
    hidden = {name for name in found.data.tags if "user" in name or "source" in name}
    assert not hidden, found.data.tags


def test_mlflow_gets_parameters_that_an_earlier_try_did_not_write(run):
    """The run is created first, and a pod or a request may end right after that."""
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient

    from springtide_trainer.tracking.mlflow import RUN, MLflow

    client = MlflowClient(tracking_uri=(run.folder / "mlruns").as_uri())
    experiment = client.create_experiment(run.update)
    left = client.create_run(experiment, tags={RUN: f"{run.update}/{run.name}"})
    MLflow(run).close("finished")
    (found,) = client.search_runs([experiment])
    assert found.info.run_id == left.info.run_id
    assert found.data.params == {"task": "Classification", "ranking.gains.très bon_": "3"}


def test_mlflow_keeps_parameters_apart_whose_names_differ_in_characters_it_refuses(run):
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient

    from springtide_trainer.tracking.mlflow import MLflow

    gains = {"gains.★": "1", "gains.☆": "0", "gains.none": ""}
    for _ in range(2):
        MLflow(replace(run, parameters=gains)).close("finished")
    client = MlflowClient(tracking_uri=(run.folder / "mlruns").as_uri())
    experiment = client.get_experiment_by_name(run.update)
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.data.params == {"gains._": "1", "gains.__": "0"}


def processes_of_wandb() -> list[int]:
    """Return the pids of its processes below this one, without those that have ended."""
    found = []
    for task in Path("/proc/self/task").glob("*/children"):
        for pid in map(int, task.read_text().split()):
            with suppress(FileNotFoundError):
                if "wandb-core" in Path(f"/proc/{pid}/cmdline").read_text():
                    found.append(pid)
    return found


def test_wandb_writes_offline_runs_of_one_id_without_a_key(run):
    pytest.importorskip("wandb")
    from springtide_trainer.tracking.wandb import WandB

    interrupted_and_resumed(WandB, run, pause=1.1)  # its folders are named by the second
    assert not processes_of_wandb()  # one that lives may still have to write
    folders = sorted((run.folder / "wandb").glob("offline-run-*"))
    assert len(folders) == 3
    assert len({folder.name.rpartition("-")[2] for folder in folders}) == 1
    first, second, scores = (next(folder.glob("*.wandb")).read_bytes() for folder in folders)
    for file, value in ((first, b"2.25"), (second, b"0.2"), (scores, b"0.7")):
        assert value in file  # what `wandb sync` would send
    assert LOSS.encode() in first
    assert LOSS.encode() in second
    assert b"gate/ndcg@10/candidate" in scores
    assert b"Classification" in first


def test_wandb_tries_again_to_open_a_run_that_it_could_not_open(run, monkeypatch):
    """Its own process would refuse the second try, because it keeps the id of the first one."""
    pytest.importorskip("wandb")
    from springtide_trainer.tracking import wandb

    monkeypatch.setenv("WANDB_API_KEY", 40 * "0")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(wandb, "SECONDS", 1)
    for _ in range(2):
        with pytest.raises(Exception, match="resume status") as failed:
            wandb.WandB(run)
        assert "in use" not in str(failed.value)


@pytest.mark.parametrize(("package", "name"), [("mlflow", "MLflow"), ("wandb", "WandB")])
def test_without_a_server_and_without_a_claim_there_is_no_place_for_files(run, package, name):
    pytest.importorskip(package)
    from springtide_trainer.tracking.report import TRACKERS

    with pytest.raises(LookupError, match="the storage is an object store"):
        TRACKERS[name](replace(run, on_claim=False))


def test_a_tracker_imports_its_package_when_it_is_opened_and_not_before():
    """Stages must start without the packages, and evaluation without waiting for PyTorch."""
    code = (
        "import sys\n"
        "for name in ('tensorboard', 'mlflow', 'wandb', 'torch'): sys.modules[name] = None\n"
        "from pathlib import Path\n"
        "from springtide_trainer.tracking.report import TRACKERS, TrackedRun\n"
        "for connect in TRACKERS.values():\n"
        "    try: connect(TrackedRun('a/b', 'g1', 'b g1', Path('x'), Path('y')))\n"
        "    except ModuleNotFoundError as missing: print(missing.name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["torch.utils", "mlflow", "wandb"]
