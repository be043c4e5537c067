"""A pod with several processes ends with the exit code and the message of the one that failed."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from springtide_api.contract import ExitCode, Failure, Result, RunFile
from springtide_trainer.errors import Interrupted, Refused
from springtide_trainer.stages import launcher, runner
from springtide_trainer.storage import Home

if TYPE_CHECKING:
    from collections.abc import Callable

# Stands for `rank`: it ends as the test plans, without training anything.
ACTOR = """
import json, os, pathlib, signal, sys, time
ends, rank = pathlib.Path(sys.argv[1]), os.environ["RANK"]
plan = json.loads(os.environ["PLAN"])[int(rank)]
seen = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "WORLD_SIZE", "LOCAL_RANK")}
pathlib.Path(os.environ["SEEN"], rank).write_text(json.dumps(seen))
if plan.get("until") == "SIGTERM":
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(1))
    pathlib.Path(os.environ["SEEN"], f"ready-{rank}").touch()
    while not ended:
        time.sleep(0.01)
time.sleep(plan.get("after", 0.0))
while "follows" in plan and not (ends / f"{plan['follows']}.json").exists():
    time.sleep(0.01)
if "end" in plan:
    (ends / f"{rank}.json").write_text(json.dumps(plan["end"]))
if "signal" in plan:
    os.kill(os.getpid(), plan["signal"])
sys.exit(plan.get("code", 0))
"""
LOST = {"until": "SIGTERM", "code": 1}
"""A process that waits for another one until it is ended."""
MADE = {"uri": "file:///x", "digest": "sha256:" + "1" * 64, "bytes": 7}


def result(failure: Failure | None = None, **more: Any) -> dict[str, Any]:
    made = Result(job="g1-train-1", stage="train", number=1, ok=failure is None, failure=failure)
    return made.plain() | more


def failed(reason: str, code: int, after: float = 0.0) -> dict[str, Any]:
    return {"end": result(Failure(reason=reason, message=reason)), "code": code, "after": after}


def run_file(home: Path, **training: Any) -> RunFile:
    columns = {"text": "text", "label": "label", "timestamp": "at"}
    source = {"uri": "file:///data/x", "format": "CSV", "columns": columns}
    return RunFile.model_validate(
        {
            "stage": "train",
            "namespace": "shop",
            "update": "ranker",
            "number": 1,
            "job": "g1-train-1",
            "home": str(home),
            "recipe": {
                "model": {"initial": {"uri": "file:///models/x"}, "labels": ["no", "yes"]},
                "data": {"source": source},
                "training": training,
                "evaluation": {},
                "gate": {"rules": [{"name": "floor", "metric": "auc", "dataset": "holdout"}]},
                "storage": {"uri": "file:///models", "volume": {"claimName": "models"}},
            },
        }
    )


@pytest.fixture
def act(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run a process for each plan; return the result, or raise what the launcher raises."""
    (tmp_path / "actor.py").write_text(ACTOR)
    (tmp_path / "seen").mkdir()
    known = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{known}")
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    monkeypatch.setattr(launcher, "RANK", "actor")

    def start(*plans: dict[str, Any]) -> Result:
        monkeypatch.setenv("PLAN", json.dumps(plans))
        home = Home(tmp_path / "home")
        with home.tmp("g1-train-1", "pod") as tmp:
            return launcher.train(
                run_file(home.path), home, tmp, pod_uid="pod", processes=len(plans)
            )

    return start


def test_the_result_is_that_of_the_first_process(act, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    made = act({"end": result(train={"artifact": MADE})}, {"end": result()})
    assert made.train.artifact.digest == MADE["digest"]
    seen = json.loads((tmp_path / "seen" / "1").read_text())
    assert (seen["WORLD_SIZE"], seen["OMP_NUM_THREADS"]) == ("2", "4")
    assert os.environ["OMP_NUM_THREADS"] == "8"
    assert "GLOO_SOCKET_IFNAME" not in os.environ


@pytest.mark.survives(
    "Jobs and pods",
    "one of several processes of a training fails, runs out of memory or is killed",
    "all end; the pod ends with the exit code and the message of that one, and is retried or not "
    "as with one process",
)
@pytest.mark.parametrize("code", sorted(set(ExitCode) - {ExitCode.DONE}))
def test_the_exit_code_of_a_process_is_that_of_the_pod(act, code):
    with pytest.raises(Refused) as refused:
        act(LOST, failed("Because", code))
    assert refused.value.code == code
    assert refused.value.failure.reason == "Because"


def test_a_process_that_names_its_failure_comes_before_one_that_lost_it(act):
    lost = failed("Error", 1) | {"follows": 1}  # else it may end the others before they failed
    plans = [lost, failed("OutOfMemory", 42), lost]
    with pytest.raises(Refused) as refused:
        act(*plans)
    assert (refused.value.code, refused.value.failure.reason) == (42, "OutOfMemory")


def test_a_killed_process_is_named(act):
    with pytest.raises(Refused, match="process 1 of 2 was ended by signal 9") as refused:
        act(LOST, {"signal": signal.SIGKILL})
    assert refused.value.code == 128 + signal.SIGKILL


def test_an_unexpected_error_of_all_processes_is_one(act):
    with pytest.raises(Refused) as refused:
        act(failed("Error", 1), failed("Error", 1))
    assert (refused.value.code, refused.value.failure.reason) == (1, "Error")


def terminate_when_ready(seen: Path, count: int) -> None:
    """Send SIGTERM to this process when the actors wait for it."""

    def send() -> None:
        while len(list(seen.glob("ready-*"))) < count:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=send, daemon=True).start()


def test_sigterm_reaches_all_processes_and_they_end_in_their_own_time(act, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    terminate_when_ready(tmp_path / "seen", 2)
    saving = {"until": "SIGTERM", "after": 1.0, **failed("Interrupted", 143, 1.0)}
    began = time.monotonic()
    with pytest.raises(Interrupted):
        act(saving, saving)
    assert time.monotonic() - began > 1.0
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_result_that_is_committed_in_spite_of_sigterm_counts(act, tmp_path):
    terminate_when_ready(tmp_path / "seen", 2)
    ending = {"until": "SIGTERM", "end": result(train={"artifact": MADE})}
    assert act(ending, {"until": "SIGTERM", "end": result()}).train is not None


@pytest.mark.parametrize(
    ("gpus", "found", "variable", "expected"),
    [(0, 0, None, 1), (1, 0, None, 1), (4, 4, None, 4), (8, 9, None, 8), (0, 0, "3", 3)],
)
def test_a_training_has_a_process_for_each_gpu(monkeypatch, gpus, found, variable, expected):
    monkeypatch.setattr(launcher, "_gpus", lambda: found)
    run = run_file(Path("/models"), compute={"gpusPerNode": gpus})
    environ = {launcher.PROCESSES: variable} if variable else {}
    assert launcher.processes_of(run, environ) == expected
    assert launcher.processes_of(run.model_copy(update={"stage": "evaluate"}), environ) == 1


def test_a_pod_that_sees_too_few_gpus_is_retried(monkeypatch):
    monkeypatch.setattr(launcher, "_gpus", lambda: 3)
    run = run_file(Path("/models"), compute={"gpusPerNode": 4})
    with pytest.raises(Refused, match="gpusPerNode is 4 and this pod sees 3") as refused:
        launcher.processes_of(run, {})
    assert refused.value.code == ExitCode.ENVIRONMENT


def test_a_pod_among_several_knows_its_place_by_the_variables_of_its_job():
    known = {launcher.NODES: "3", launcher.INDEX: "2", launcher.RENDEZVOUS: "a-node-0-0.a:29500"}
    run = run_file(Path("/models"))
    nodes = launcher.nodes_of(run, known)
    assert (nodes.rank, nodes.count, nodes.leads) == (2, 3, False)
    assert launcher.nodes_of(run, {}) == launcher.ONE_NODE
    assert launcher.nodes_of(run, known | {launcher.INDEX: "0"}).leads


@pytest.mark.parametrize("wrong", [{launcher.INDEX: "3"}, {launcher.INDEX: ""}])
def test_variables_that_do_not_fit_together_are_refused(wrong):
    known = {launcher.NODES: "3", launcher.INDEX: "2", launcher.RENDEZVOUS: "a:29500"}
    with pytest.raises(Refused, match="do not fit together"):
        launcher.nodes_of(run_file(Path("/models")), known | wrong)


@pytest.mark.parametrize("given", ["0", "two", "-1"])
def test_a_wrong_number_of_processes_is_refused(given):
    with pytest.raises(Refused, match="set a number from 1"):
        launcher.processes_of(run_file(Path("/models")), {launcher.PROCESSES: given})


@pytest.mark.parametrize("code", [ExitCode.DONE, ExitCode.OUT_OF_MEMORY])
def test_a_pod_writes_one_message(act, tmp_path, monkeypatch, code):
    end = {"end": result(train={"artifact": MADE})} if not code else failed("OutOfMemory", code)
    monkeypatch.setenv("PLAN", json.dumps([end, {"end": result()} if not code else LOST]))
    run = run_file(tmp_path / "home")
    path, message = tmp_path / "run.json", tmp_path / "message"
    path.write_text(run.model_dump_json(by_alias=True, exclude_none=True))
    environ = {
        "SPRINGTIDE_RUN_FILE": str(path),
        "SPRINGTIDE_TERMINATION_LOG": str(message),
        launcher.PROCESSES: "2",
    }
    assert runner.run_pod(environ) == code
    written = Result.model_validate_json(message.read_bytes())
    assert written.ok is (code == ExitCode.DONE)
    assert home_is_tidy(tmp_path / "home")


def home_is_tidy(home: Path) -> bool:
    return not list((home / "tmp").iterdir())


@pytest.mark.parametrize(
    ("codes", "times", "expected"),
    [
        ({0: 1, 1: -9, 2: 1}, {0: 5, 1: 6, 2: 6}, 137),  # killed; noticed a moment after the others
        ({0: -9, 1: 1, 2: -9}, {0: 40, 1: 8, 2: 40}, 1),  # failed; the others did not end
        ({0: 143, 1: 42, 2: -9}, {0: 6, 1: 5, 2: 5}, 42),  # out of memory names itself
        ({0: -15, 1: 1}, {0: 5, 1: 5}, 1),  # failed while the other one started
    ],
)
def test_the_cause_is_what_came_first(tmp_path, codes, times, expected):
    found = launcher._cause(codes, times, tmp_path, len(codes))
    assert found.code == expected
