"""The demo's canary, rollback by the analysis and pin: what is applied, and how each ends."""

import itertools
import json
import shutil
import time
from dataclasses import replace

import pytest
import yaml
from demo import steps
from demo.cluster import EXAMPLES, Cluster
from demo.example import Example
from demo.kubectl import DemoError, Kubectl
from demo.traffic import manifests, scenes, setting
from demo.traffic.setting import Gateway, Traffic
from local_cluster import processes
from local_cluster.places import program

from springtide_api.update.spec import UpdateSpec

GATEWAY = Gateway("traefik", "10.200.0.2", 8000)
LOCAL = Traffic(
    "http://prometheus.monitoring:9090", ((10, "12s"), (50, "12s")), "15s", "5s", GATEWAY
)
BY_PODS = replace(LOCAL, gateway=None, storage_class="nfs")
TRAFFIC = pytest.mark.parametrize("traffic", [LOCAL, BY_PODS], ids=["gateway", "pods"])


def update(traffic):
    """Return the update of the example, with the rollout of the demo merged into it."""
    made = yaml.safe_load((EXAMPLES / "40-update.yaml").read_text())
    made["spec"]["rollout"] |= manifests.rollout(traffic)["rollout"]
    made["metadata"]["namespace"] = "default"
    return made


@TRAFFIC
def test_the_rollout_is_a_canary_whose_metric_is_known(traffic):
    rollout = UpdateSpec.model_validate(update(traffic)["spec"]).rollout

    assert [step.weight for step in rollout.strategy.canary.steps] == [10, 50]
    assert rollout.strategy.canary.traffic.type == ("Gateway" if traffic.gateway else "Replicas")
    assert [metric.name for metric in rollout.analysis.metrics] == [manifests.METRIC]


@TRAFFIC
@pytest.mark.apiserver
def test_the_rollout_is_accepted_by_the_api_server(kinds, traffic):
    kinds.kubectl(
        *("apply", "--server-side", "--dry-run=server", "-f", "-"),
        input=json.dumps(update(traffic)),
    )


def test_the_route_gives_the_canary_nothing_and_is_of_the_gateway():
    gateway, route = manifests.routing("shop", GATEWAY)

    (rule,) = route["spec"]["rules"]
    weights = {one["name"]: one["weight"] for one in rule["backendRefs"]}
    assert weights == {"recommender": 100, "recommender-canary": 0}
    assert route["spec"]["parentRefs"] == [{"name": gateway["metadata"]["name"]}]
    assert gateway["spec"]["listeners"][0]["port"] == GATEWAY.port
    assert manifests.routing("shop", None) == []


@pytest.mark.parametrize(("name", "operations"), [("", 1), ("nfs", 2)])
def test_the_claims_are_of_many_pods_and_of_the_named_class(name, operations):
    (patch,) = yaml.safe_load(manifests.claims(name))["patches"]

    changes = yaml.safe_load(patch["patch"])

    assert len(changes) == operations
    assert changes[0]["value"] == "ReadWriteMany"
    assert changes[-1]["value"] == (name or "ReadWriteMany")


@pytest.mark.prometheus
def test_the_query_is_the_latency_of_the_canary_in_multiples_of_the_live_one(prometheus, samples):
    names = {"namespace": "demo-query", "generation": "4", "role": "canary"}
    query = manifests.query("1m")
    for name, value in names.items():
        query = query.replace(f"{{{{{name}}}}}", value)
    seconds = {("canary", "4"): 0.4, ("live", "3"): 0.1, ("canary", "3"): 9.0}

    def count(requests):
        for (role, generation), each in seconds.items():
            of = f'namespace="demo-query",role="{role}",generation="{generation}",outcome="ok"'
            samples.set(f"springtide_server_request_seconds_count{{{of}}}", requests)
            samples.set(f"springtide_server_request_seconds_sum{{{of}}}", requests * each)

    grows = itertools.count()
    found = []

    def answered():
        count(next(grows))
        found[:] = prometheus.query(f"({query}) > 0")  # not NaN
        return bool(found)

    assert processes.waited(answered, seconds=60, pause=0.2)
    (series,) = found
    assert float(series["value"][1]) == pytest.approx(4.0)


def test_requests_go_through_the_gateway_and_some_are_long():
    common = {"LONG": setting.LONG, "PATIENCE": setting.PATIENCE}
    assert LOCAL.client == {**common, "HOST": "10.200.0.2", "PORT": "8000"}
    assert BY_PODS.client == common


@pytest.fixture
def kubectl():
    """The program alone: what is asked here needs no cluster."""
    return Kubectl((program("kubectl"),))


@pytest.mark.apiserver
@pytest.mark.parametrize("settings", [{}, BY_PODS.client, LOCAL.client])
def test_the_load_generator_gets_its_settings(kubectl, settings):
    where = Cluster(kubectl, (), {}, operator_image="", trainer_image="trainer@sha256:0")

    objects = Example(where)._load_generator(settings)

    (pod,) = [one for one in objects if one["kind"] == "Pod"]
    (container,) = pod["spec"]["containers"]
    assert {one["name"]: one["value"] for one in container["env"]} == settings


@pytest.mark.apiserver
@pytest.mark.parametrize("name", ["", "nfs"])
def test_the_claims_of_the_example_are_changed_by_the_kustomization(kubectl, tmp_path, name):
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    (tmp_path / "my-shop").mkdir()
    text = "resources: [../examples]\n" + manifests.claims(name)
    (tmp_path / "my-shop" / "kustomization.yaml").write_text(text)

    made = list(yaml.safe_load_all(kubectl("kustomize", str(tmp_path / "my-shop"))))

    claims = [one["spec"] for one in made if one["kind"] == "PersistentVolumeClaim"]
    assert [claim["accessModes"] for claim in claims] == [["ReadWriteMany"]] * 2
    assert {claim.get("storageClassName", "") for claim in claims} == {name}


class StorageClasses:
    """Has one class, as `Kubectl.get` returns it."""

    def get(self, kind, name):
        assert kind == "storageclass"
        return {"metadata": {"name": name}} if name == "nfs" else {}


@pytest.fixture
def named(monkeypatch):
    """Sets the variables of a user's cluster, and returns what is made of them."""

    def existing(**variables):
        for name in ("PROMETHEUS", "STORAGE_CLASS"):
            monkeypatch.setenv(name, variables.get(name, ""))
        return setting.existing(StorageClasses())

    return existing


def test_on_a_cluster_of_the_user_two_variables_name_what_a_canary_needs(named):
    found = named(PROMETHEUS="http://prometheus.monitoring:9090", STORAGE_CLASS="nfs")

    assert (found.prometheus_host, found.storage_class) == ("prometheus.monitoring:9090", "nfs")
    assert found.gateway is None
    assert [weight for weight, _ in found.steps] == [33, 50]  # of two pods, within 5 points


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"PROMETHEUS": "http://prometheus:9090"}, "name both or none"),
        ({"STORAGE_CLASS": "nfs"}, "name both or none"),
        (
            {"PROMETHEUS": "http://prometheus", "STORAGE_CLASS": "nfs"},
            "write it as http://HOST:PORT",
        ),
        ({"PROMETHEUS": "http://prometheus:9090", "STORAGE_CLASS": "x"}, "no StorageClass x"),
    ],
)
def test_half_of_it_or_a_wrong_one_is_refused(named, variables, message):
    with pytest.raises(DemoError, match=message):
        named(**variables)


def test_without_them_only_the_scenes_that_watch_traffic_are_left_out(named):
    traffic = named()

    assert traffic is None
    assert set(scenes.scenes(LOCAL)) - set(scenes.scenes(traffic)) == {scenes.SLOW}
    assert scenes.PIN in scenes.scenes(traffic)
    assert set(steps.STEPS) < set(scenes.scenes(traffic))
    assert all(name in setting.ABSENT for name in ("PROMETHEUS", "STORAGE_CLASS"))


RULE = {"rule": "as-good-as-live", "metric": "auc", "candidate": "0.7012", "baseline": "0.6443"}
BREACH = "metric slower-than-live is outside its bounds (max 2) in 3 samples in a row: 4, 5, 4"


class Played:
    """An example whose statuses were recorded; notes what is asked of it."""

    namespace = "shop"

    def __init__(self, *statuses, reason=BREACH):
        self.statuses, self.now, self.asked = list(statuses), {}, []
        rollout = {"rollbackReason": reason, "step": 2}
        status = {"rollout": rollout, "evaluation": {"results": [RULE]}}
        self.numbered = {
            number: {"status": {**status, "artifact": {"servedDigest": f"sha256:{number}"}}}
            for number in range(5)
        }

    def update(self):
        self.now = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        return self.now

    def generations(self):
        return self.numbered

    def served(self):
        return {"digest": self.now.get("digest")}

    def edit(self, spec):
        self.asked.append(spec)

    def request(self, verb, token):
        self.asked.append(verb)

    def deliver(self, file, content):
        self.asked.append(file)

    def run_documented(self, page, name):
        self.asked.append(name)

    def show(self, *arguments):
        self.asked.append(arguments[0])
        return ""


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Waits for nothing between two looks."""
    monkeypatch.setattr("demo.waiting.PAUSE", 0)
    monkeypatch.setattr(scenes, "PLATEAU", 0)


def last(outcome, live=3, verdict="Accepted"):
    ended = {"generation": "recommender-g4", "outcome": outcome, "verdict": verdict}
    return {"live": {"number": live}, "lastRun": ended}


@pytest.fixture(autouse=True)
def ahead(monkeypatch):
    """Trains nothing in the background; counts how often that was begun."""
    begun = []
    monkeypatch.setattr("demo.departments.Ahead", begun.append)
    return begun


def play(name, example, traffic=LOCAL):
    seen = steps.DemoRun(traffic)
    return scenes.scenes(traffic)[name](example, seen, lambda line: None), seen


def test_a_generation_that_is_slow_online_is_rolled_back_and_the_metric_is_the_reason():
    example = Played({"live": {"number": 3}}, last(""), last("RolledBack"))

    result, _ = play(scenes.SLOW, example)

    assert "AUC 0.701, generation 3 0.644" in result
    assert BREACH in result
    assert example.asked == [{"model": {"maxLength": 512}}, "2026-06.csv.gz", "run"]


@pytest.mark.parametrize(
    ("status", "reason", "message"),
    [
        (last("Live", live=4), BREACH, "generation 4 was promoted"),
        (last("", verdict="Rejected"), BREACH, "generation 4 is Rejected"),
        (last("RolledBack"), "pods of recommender-canary crash", "not rolled back by its latency"),
    ],
)
def test_another_end_of_that_generation_ends_the_demo(status, reason, message):
    with pytest.raises(DemoError, match=message):
        play(scenes.SLOW, Played(status, reason=reason))


def test_the_pin_is_set_and_removed_once_its_generation_is_served():
    now = [
        {"phase": "Idle", "digest": "sha256:3"},
        {"phase": "Pinned", "digest": "sha256:3"},
        {"phase": "Pinned", "digest": "sha256:2"},
        {"phase": "Pinned", "digest": "sha256:3"},
        {"phase": "Idle", "digest": "sha256:3"},
    ]
    example = Played(*now)

    _, seen = play(scenes.PIN, example)

    assert example.asked == ["pin", "rollout", "unpin", "rollout"]
    assert example.statuses == now[-1:]
    assert seen.pinned_until >= time.time() - 60


MAY = next(title for title in steps.MONTHS if "May" in title)
QUARANTINED = {"cursor": {"quarantined": ["2026-04"]}, "live": {"number": 2}}


def test_generation_3_goes_live_by_the_steps_of_a_canary(ahead):
    example = Played(QUARANTINED, {"live": {"number": 3}})

    result, _ = play(MAY, example)

    assert "generation 3 is live after 10 % and 50 % of the requests" in result
    assert manifests.rollout(LOCAL) in example.asked
    assert ahead == [steps.initial_model()]


def test_without_traffic_it_goes_live_by_a_rolling_update():
    example = Played(QUARANTINED, {"live": {"number": 3}})

    result, _ = play(MAY, example, traffic=None)

    assert "generation 3 is live: AUC" in result
    assert example.asked == ["quarantine", "2026-05.csv.gz", "run"]


def test_a_canary_that_did_not_pass_all_steps_ends_the_demo():
    example = Played(QUARANTINED, {"live": {"number": 3}})
    example.numbered[3]["status"]["rollout"]["step"] = 1

    with pytest.raises(DemoError, match="ended at step 1"):
        play(MAY, example)
