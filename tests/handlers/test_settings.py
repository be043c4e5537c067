"""What an installation sets is read once, and a wrong value is refused by its name."""

import json

import pytest

from springtide_operator import settings
from springtide_operator.ports.notifier import Sink

LEAST = {"SPRINGTIDE_TRAINER_IMAGE": "trainer:1", "SPRINGTIDE_PROGRESS_URL": "http://operator:8080"}


def read(**changes):
    return settings.read(LEAST | changes)


def test_without_further_variables_jobs_are_unchanged():
    assert read().job_pods.pod() == {}
    assert read().job_pods.labels == {}


def test_what_the_chart_adds_to_jobs_is_read_as_json():
    given = {
        "imagePullSecrets": ["registry"],
        "serviceAccountName": "trainer",
        "labels": {"team": "search"},
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}},
        "runtimeClassName": "gvisor",
    }
    pods = read(SPRINGTIDE_JOB_PODS=json.dumps(given)).job_pods
    assert pods.labels == {"team": "search"}
    assert pods.pod() == {
        "imagePullSecrets": [{"name": "registry"}],
        "serviceAccountName": "trainer",
        "affinity": given["affinity"],
        "runtimeClassName": "gvisor",
    }


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"serviceAccountName": "Not A Name"}, "serviceAccountName"),
        ({"imagePullSecrets": ["a/b"]}, "imagePullSecrets.0"),
        ({"imagePullSecrets": ["x"] * 9}, "imagePullSecrets"),
        ({"labels": {"team": "a b"}}, "labels.team"),
        ({"labels": {"a b": "team"}}, "labels"),
        ({"labels": {"springtide.dev/update": "other"}}, "springtide.dev/update is reserved"),
        ({"labels": {"job-name": "other"}}, "job-name is reserved"),
        ({"affinity": {"podAfinity": {}}}, "affinity.podAfinity"),
        ({"runtimeClass": "gvisor"}, "runtimeClass"),
        ({"runtimeClassName": ""}, "runtimeClassName"),
        (["team"], "should be an object"),
    ],
)
def test_wrong_settings_of_jobs_are_refused_by_its_field(given, named):
    with pytest.raises(ValueError, match="SPRINGTIDE_JOB_PODS") as refused:
        read(SPRINGTIDE_JOB_PODS=json.dumps(given))
    assert named in str(refused.value)
    assert "\n" not in str(refused.value)


def test_settings_of_jobs_that_are_not_json_are_refused():
    with pytest.raises(ValueError, match="SPRINGTIDE_JOB_PODS"):
        read(SPRINGTIDE_JOB_PODS="{labels")


def test_each_release_may_name_its_own_lease():
    assert read().lease_name == "springtide-operator"
    assert read(SPRINGTIDE_LEASE_NAME="other").lease_name == "other"


def test_hosts_of_prometheus_are_a_list_and_none_is_allowed_by_default():
    assert read().prometheus_hosts == frozenset()
    hosts = read(SPRINGTIDE_PROMETHEUS_HOSTS="prometheus.monitoring:9090, thanos").prometheus_hosts
    assert hosts == {"prometheus.monitoring:9090", "thanos"}


@pytest.mark.parametrize("host", ["http://prometheus", "a/b", "*", "prometheus:http", "user@host"])
def test_a_host_of_prometheus_is_no_address(host):
    with pytest.raises(ValueError, match="SPRINGTIDE_PROMETHEUS_HOSTS has"):
        read(SPRINGTIDE_PROMETHEUS_HOSTS=host)


def test_initial_models_come_from_the_public_hub_by_default_or_from_none():
    assert read().hub_endpoint == "https://huggingface.co"
    mirror = read(SPRINGTIDE_HUB_ENDPOINT="http://mirror.example:8000/hub/").hub_endpoint
    assert mirror == "http://mirror.example:8000/hub"
    assert read(SPRINGTIDE_HUB_ENDPOINT="").hub_endpoint == ""


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("huggingface.co", "set it to http:// or https:// with a host"),
        ("https://user:k3y@mirror.example", "its token is HF_TOKEN of the Secret of an update"),
        ("https://mirror.example?token=k3y", "has a query"),
    ],
)
def test_an_endpoint_of_a_hub_is_a_url_without_secrets(url, named):
    with pytest.raises(ValueError, match="SPRINGTIDE_HUB_ENDPOINT") as refused:
        read(SPRINGTIDE_HUB_ENDPOINT=url)
    assert named in str(refused.value)
    assert "k3y" not in str(refused.value)


def test_an_unknown_log_level_is_refused():
    assert read(SPRINGTIDE_LOG_LEVEL="DEBUG").log_level == "debug"
    with pytest.raises(ValueError, match="SPRINGTIDE_LOG_LEVEL is 'loud'"):
        read(SPRINGTIDE_LOG_LEVEL="loud")


def test_the_limits_of_requests_have_defaults_and_are_read_from_the_environment():
    assert (read().client_qps, read().client_burst) == (200, 400)
    chosen = read(SPRINGTIDE_CLIENT_QPS="12.5", SPRINGTIDE_CLIENT_BURST="30")
    assert (chosen.client_qps, chosen.client_burst) == (12.5, 30)


@pytest.mark.parametrize("name", ["SPRINGTIDE_CLIENT_QPS", "SPRINGTIDE_CLIENT_BURST"])
def test_a_limit_of_requests_below_one_is_refused_by_name(name):
    with pytest.raises(ValueError, match=f"{name} is 0; set it to 1 or more"):
        read(**{name: "0"})


def test_without_a_url_notifications_are_sent_nowhere():
    assert read().sink == Sink(url="", timeout_seconds=10, repeat_seconds=3600, directory="")


def test_the_sink_of_notifications_is_read_from_the_environment():
    name = "SPRINGTIDE_NOTIFICATIONS"
    given = {
        f"{name}_URL": "https://events.example:8443/springtide?key=a",
        f"{name}_TIMEOUT_SECONDS": "3",
        f"{name}_REPEAT_SECONDS": "0",
        f"{name}_DIRECTORY": "/etc/springtide/notifications",
    }
    expected = Sink(
        url="https://events.example:8443/springtide?key=a",
        timeout_seconds=3,
        repeat_seconds=0,
        directory="/etc/springtide/notifications",
    )
    assert read(**given).sink == expected


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("events.example/k3y", "set it to http:// or https:// with a host"),
        ("ftp://events.example/k3y", "set it to http:// or https:// with a host"),
        ("https:///k3y", "set it to http:// or https:// with a host"),
        ("https://events.example:port/k3y", "set it to http:// or https:// with a host"),
        ("https://events.example/k3y\n", "set it to http:// or https:// with a host"),
        ("https://events.example/a k3y", "set it to http:// or https:// with a host"),
        ("https://user:k3y@events.example", "use the file authorization for credentials"),
    ],
)
def test_a_url_that_is_none_is_refused_and_not_repeated_since_it_may_hold_a_secret(url, named):
    with pytest.raises(ValueError, match="SPRINGTIDE_NOTIFICATIONS_URL") as refused:
        read(SPRINGTIDE_NOTIFICATIONS_URL=url)
    assert named in str(refused.value)
    assert "k3y" not in str(refused.value)


@pytest.mark.parametrize(
    "selector",
    ["", "shard=a", "example.com/shard==a,stage!=test", "team in (a,b),!own", "x notin (a),live"],
)
def test_a_label_selector_names_the_namespaces_of_a_shard(selector):
    assert read(SPRINGTIDE_NAMESPACE_SELECTOR=selector).namespace_selector == selector


@pytest.mark.parametrize("selector", ["a b", "=a", "team in a", "team in ()", "x=1;y=2", "x=a,"])
def test_what_is_no_label_selector_is_refused(selector):
    with pytest.raises(ValueError, match="SPRINGTIDE_NAMESPACE_SELECTOR is"):
        read(SPRINGTIDE_NAMESPACE_SELECTOR=selector)


def test_one_namespace_and_a_selector_exclude_each_other():
    with pytest.raises(ValueError, match="both set"):
        read(SPRINGTIDE_NAMESPACE_SELECTOR="shard=a", SPRINGTIDE_NAMESPACE="shop")
