"""The main job on a real cluster: from new data to a served, judged model, and no request lost."""

import json
from pathlib import Path

import pytest

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]


def generation(demo_run, number):
    return demo_run.generations[number]["status"]


def rule(status, name):
    return next(one for one in status["evaluation"]["results"] if one["rule"] == name)


def condition(status, type_):
    return next(one for one in status["conditions"] if one["type"] == type_)


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


def test_generation_2_continues_from_generation_1_and_is_proven_against_it(demo_run):
    second = demo_run.generations[2]
    assert (
        second["spec"]["parent"]["digest"] == generation(demo_run, 1)["artifact"]["weightsDigest"]
    )
    assert second["spec"]["baseline"] == second["spec"]["parent"]
    assert second["status"]["verdict"] == "Accepted"
    assert second["status"]["reason"] == "RulesPassed"
    assert float(rule(second["status"], "as-good-as-live")["low"]) > -0.01
    assert demo_run.improved["live"]["number"] == 2
    assert demo_run.improved["cursor"]["trainedThrough"] == "2026-03-01T00:00:00Z"


def test_shuffled_labels_make_the_month_suspect_and_nothing_is_promoted(demo_run):
    doubted = demo_run.doubted["status"]
    assert (doubted["verdict"], doubted["reason"]) == ("Inconclusive", "HoldoutSuspect")
    assert float(rule(doubted, "useful")["candidate"]) < 0.6
    assert demo_run.suspected["live"]["number"] == 2
    assert demo_run.suspected["phase"] == "OnHold"
    assert demo_run.suspected["cursor"]["proposedForQuarantine"] == ["2026-04"]


def test_the_served_model_is_untouched_by_the_poisoned_month(demo_run):
    assert demo_run.served_after == demo_run.served_before
    assert demo_run.served_after["digest"] == generation(demo_run, 2)["artifact"]["servedDigest"]


def test_an_accepted_quarantine_leaves_the_month_out(demo_run):
    assert demo_run.quarantined["cursor"]["quarantined"] == ["2026-04"]
    assert demo_run.quarantined["lastRequest"]["result"] == "Accepted"


def test_the_waiting_candidate_is_judged_on_the_clean_month_without_training_again(demo_run):
    third, doubted = generation(demo_run, 3), demo_run.doubted["status"]
    assert max(demo_run.generations) == 3
    assert third["training"]["job"] == doubted["training"]["job"]
    assert third["artifact"] == doubted["artifact"]
    assert third["evaluation"]["holdouts"][-1]["partitions"] == ["2026-05"]
    assert third["verdict"] == "Accepted"
    assert demo_run.recovered["live"]["number"] == 3
    assert demo_run.recovered["cursor"]["trainedThrough"] == "2026-04-01T00:00:00Z"


def test_no_request_fails_from_the_moment_generation_1_is_available(demo_run):
    assert demo_run.totals["failures"] == []
    assert demo_run.totals["failed"] == 0
    assert {"1", "2", "3"} <= set(demo_run.totals["generations"])
    assert demo_run.totals["sent"] - demo_run.totals["answered"] < 100


def test_what_is_served_is_what_was_judged(demo_run, example):
    third = generation(demo_run, 3)
    report = third["evaluation"]["report"].removeprefix("file://")
    manifest = third["evaluation"]["holdouts"][-1]["manifest"].removeprefix("file://")
    script = Path(__file__).with_name("served_scores.py").read_text()
    compared = json.loads(example.python(script, report, manifest))
    assert (compared["rows"], compared["version"]) == (200, "3")
    assert compared["difference"] < 1e-5


def test_kubectl_get_tells_the_state_in_one_line(demo_run, example):
    header, line = example.show("get", "iu").splitlines()
    columns = ["NAME", "PHASE", "READY", "LIVE", "CANDIDATE", "PROGRESS", "LAST-RUN"]
    assert header.split() == [*columns, "DATA-AGE", "AGE"]
    assert line.split()[:2] == ["recommender", "Idle"]
    later = example.show("get", "mg").splitlines()[2:]  # generation 0 has no parent and no outcome
    assert [line.split()[5] for line in later] == ["Superseded", "Superseded", "Live"]


def test_the_update_is_ready_and_its_targets_serve(demo_run):
    assert condition(demo_run.recovered, "Ready")["status"] == "True"
    assert condition(demo_run.recovered, "Serving")["status"] == "True"
