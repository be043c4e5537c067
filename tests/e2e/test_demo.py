"""The demo on a real cluster: installation, updates, a hold, and no failed request."""

import json
from pathlib import Path

import pytest
from demo.cluster import SYSTEM
from docs.pages import script
from local_cluster.node_config import REGISTRY

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]


def generation(demo_run, number):
    return demo_run.generations[number]["status"]


def rule(status, name):
    return next(one for one in status["evaluation"]["results"] if one["rule"] == name)


def condition(status, type_):
    return next(one for one in status["conditions"] if one["type"] == type_)


def test_the_printed_commands_are_documented_and_install_the_images(installed, printed):
    install = script("docs/how-to/install.md", "install")
    kustomization = script("docs/how-to/install.md", "kustomization")
    documented = f"{install.strip()}\n\n{kustomization.strip()}\n"
    used = {
        "registry.example/team": REGISTRY,
        "sha256:OPERATOR": installed.operator_image.partition("@")[2],
        "sha256:TRAINER": installed.trainer_image.partition("@")[2],
    }
    for placeholder, value in used.items():
        documented = documented.replace(placeholder, value)
    assert printed == documented
    operator = installed.kubectl.get("deployment/springtide", f"--namespace={SYSTEM}")
    (container,) = operator["spec"]["template"]["spec"]["containers"]
    assert container["image"] == installed.operator_image


def test_the_example_runs_the_printed_image(demo_run, example):
    pods = example.kubectl.get("pods", f"--namespace={example.namespace}")["items"]
    images = {one["image"] for pod in pods for one in pod["spec"]["containers"]}
    assert images == {example.cluster.trainer_image}


def test_an_initial_model_without_a_head_becomes_generation_0_and_is_never_served(demo_run):
    first = generation(demo_run, 0)
    assert first["artifact"]["head"] == "Seeded"
    assert "promotedAt" not in first.get("rollout", {})


def test_generation_1_is_accepted_by_absolute_rules_alone(demo_run):
    first = generation(demo_run, 1)
    assert (first["verdict"], first["reason"]) == ("Accepted", "NoBaseline")
    assert rule(first, "useful")["verdict"] == "Pass"
    assert all("baseline" not in one for one in first["evaluation"]["results"])
    assert demo_run.first_live["live"]["number"] == 1
    assert demo_run.first_live["cursor"]["trainedThrough"] == "2026-02-01T00:00:00Z"


def test_generation_2_continues_from_generation_1_and_is_compared_with_it(demo_run):
    second = demo_run.generations[2]
    assert (
        second["spec"]["parent"]["digest"] == generation(demo_run, 1)["artifact"]["weightsDigest"]
    )
    assert second["spec"]["baseline"] == second["spec"]["parent"]
    assert second["status"]["verdict"] == "Accepted"
    assert second["status"]["reason"] == "RulesPassed"
    assert float(rule(second["status"], "as-good-as-live")["low"]) > -0.01
    assert demo_run.second_live["live"]["number"] == 2
    assert demo_run.second_live["cursor"]["trainedThrough"] == "2026-03-01T00:00:00Z"


def test_shuffled_labels_make_the_month_suspect_and_nothing_is_promoted(demo_run):
    waiting = demo_run.suspect_generation["status"]
    assert (waiting["verdict"], waiting["reason"]) == ("Inconclusive", "HoldoutSuspect")
    assert float(rule(waiting, "useful")["candidate"]) < 0.6
    assert demo_run.suspect["live"]["number"] == 2
    assert demo_run.suspect["phase"] == "OnHold"
    assert demo_run.suspect["cursor"]["proposedForQuarantine"] == ["2026-04"]


def test_the_served_model_does_not_change_in_the_month_with_shuffled_labels(demo_run):
    assert demo_run.served_after == demo_run.served_before
    assert demo_run.served_after["digest"] == generation(demo_run, 2)["artifact"]["servedDigest"]


def test_an_accepted_quarantine_leaves_the_month_out(demo_run):
    assert demo_run.quarantined["cursor"]["quarantined"] == ["2026-04"]
    assert demo_run.quarantined["lastRequest"]["result"] == "Accepted"


def test_the_waiting_candidate_is_evaluated_on_the_next_month_without_training_again(demo_run):
    third, waiting = generation(demo_run, 3), demo_run.suspect_generation["status"]
    assert max(demo_run.generations) == 3
    assert third["training"]["job"] == waiting["training"]["job"]
    assert third["artifact"] == waiting["artifact"]
    assert third["evaluation"]["holdouts"][-1]["partitions"] == ["2026-05"]
    assert third["verdict"] == "Accepted"
    assert demo_run.third_live["live"]["number"] == 3
    assert demo_run.third_live["cursor"]["trainedThrough"] == "2026-04-01T00:00:00Z"


def test_no_request_fails_from_the_moment_generation_1_is_available(demo_run):
    assert demo_run.totals["failures"] == []
    assert demo_run.totals["failed"] == 0
    assert {"1", "2", "3"} <= set(demo_run.totals["generations"])
    assert demo_run.totals["sent"] - demo_run.totals["answered"] < 100


def test_the_server_returns_the_scores_that_were_evaluated(demo_run, example):
    third = generation(demo_run, 3)
    report = third["evaluation"]["report"].removeprefix("file://")
    manifest = third["evaluation"]["holdouts"][-1]["manifest"].removeprefix("file://")
    script = Path(__file__).with_name("served_scores.py").read_text()
    compared = json.loads(example.python(script, report, manifest, "3"))
    assert compared["rows"] == 200
    assert compared["difference"] < 1e-5


def test_kubectl_get_shows_the_state_in_one_line(demo_run, example):
    header, line = example.show("get", "iu").splitlines()
    columns = ["NAME", "PHASE", "READY", "LIVE", "CANDIDATE", "PROGRESS", "LAST-RUN"]
    assert header.split() == [*columns, "DATA-AGE", "AGE"]
    name, phase, *_ = line.split()
    assert name == "recommender"
    assert phase in {"Idle", "Probing"}, "it looks for data once a minute"
    later = example.show("get", "mg").splitlines()[2:]  # generation 0 has no parent and no outcome
    assert [line.split()[5] for line in later] == ["Superseded", "Superseded", "Live"]


def test_the_update_is_ready_and_its_targets_are_available(demo_run):
    assert condition(demo_run.third_live, "Ready")["status"] == "True"
    assert condition(demo_run.third_live, "Serving")["status"] == "True"
