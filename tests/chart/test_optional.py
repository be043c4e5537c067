"""What the chart adds on request: a disruption budget, a network policy, a ServiceMonitor, images
that are kept on nodes."""

import json

import pytest
from local_cluster.prometheus import Samples, on_loopback

SELECTOR = {"app.kubernetes.io/name": "springtide", "app.kubernetes.io/instance": "springtide"}


def of_kind(documents: list[dict], kind: str) -> list[dict]:
    return [document for document in documents if document["kind"] == kind]


def test_none_of_them_is_there_by_default(render):
    optional = {"PodDisruptionBudget", "NetworkPolicy", "ServiceMonitor", "DaemonSet"}
    assert not optional & {document["kind"] for document in render()}


def test_a_disruption_budget_lets_the_operator_move_or_keeps_it(render):
    for most in (0, 1):
        settings = (
            "podDisruptionBudget.enabled=true",
            f"podDisruptionBudget.maxUnavailable={most}",
        )
        (budget,) = of_kind(render(*settings), "PodDisruptionBudget")
        assert budget["spec"] == {"maxUnavailable": most, "selector": {"matchLabels": SELECTOR}}


def test_only_training_pods_reach_the_progress_port(render):
    (policy,) = of_kind(render("networkPolicy.enabled=true"), "NetworkPolicy")
    spec = policy["spec"]
    assert (spec["podSelector"], spec["policyTypes"]) == ({"matchLabels": SELECTOR}, ["Ingress"])
    progress, metrics = spec["ingress"]
    stage = {"matchExpressions": [{"key": "springtide.dev/stage", "operator": "Exists"}]}
    assert progress == {
        "from": [{"namespaceSelector": {}, "podSelector": stage}],
        "ports": [{"protocol": "TCP", "port": "progress"}],
    }
    assert metrics == {
        "from": [{"namespaceSelector": {}}],
        "ports": [{"protocol": "TCP", "port": "metrics"}],
    }


def test_training_pods_report_from_the_watched_namespace_alone(render):
    documents = render("networkPolicy.enabled=true", "watchNamespace=shop")
    (policy,) = of_kind(documents, "NetworkPolicy")
    (peer,) = policy["spec"]["ingress"][0]["from"]
    named = {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}
    assert peer["namespaceSelector"] == named


def test_training_pods_report_from_the_namespaces_of_a_shard(render):
    shard = "watchNamespaceSelector.matchExpressions[0]"
    documents = render(
        "networkPolicy.enabled=true", f"{shard}.key=shard", f"{shard}.operator=Exists"
    )
    (policy,) = of_kind(documents, "NetworkPolicy")
    (peer,) = policy["spec"]["ingress"][0]["from"]
    named = {"matchExpressions": [{"key": "shard", "operator": "Exists"}]}
    assert peer["namespaceSelector"] == named


def test_the_metrics_port_is_open_for_those_named_or_for_none(render):
    chosen = "networkPolicy.metricsFrom[0].podSelector.matchLabels.app=prometheus"
    (policy,) = of_kind(render("networkPolicy.enabled=true", chosen), "NetworkPolicy")
    assert policy["spec"]["ingress"][1]["from"] == [
        {"podSelector": {"matchLabels": {"app": "prometheus"}}}
    ]
    closed = render("networkPolicy.enabled=true", "networkPolicy.metricsFrom=null")
    (policy,) = of_kind(closed, "NetworkPolicy")
    assert len(policy["spec"]["ingress"]) == 1


def test_a_service_monitor_finds_the_metrics_port_of_the_service(render):
    documents = render(
        "serviceMonitor.enabled=true",
        "serviceMonitor.interval=1m",
        "serviceMonitor.labels.release=prometheus",
    )
    (monitor,) = of_kind(documents, "ServiceMonitor")
    (service,) = of_kind(documents, "Service")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    (endpoint,) = monitor["spec"]["endpoints"]
    assert (endpoint["port"], endpoint["path"]) == ("metrics", "/metrics")
    assert endpoint["interval"] == "1m"
    assert monitor["spec"]["namespaceSelector"] == {"matchNames": ["tides"]}
    selected = monitor["spec"]["selector"]["matchLabels"]
    assert selected.items() <= service["metadata"]["labels"].items()
    assert "metrics" in {port["name"] for port in service["spec"]["ports"]}


@pytest.mark.prometheus
def test_series_of_an_update_have_its_namespace_in_the_scrape_of_the_service_monitor(
    render, tmp_path
):
    (monitor,) = of_kind(render("serviceMonitor.enabled=true"), "ServiceMonitor")
    (endpoint,) = monitor["spec"]["endpoints"]
    of_the_operator = {"namespace": "tides", "pod": "springtide-0"}  # as the Prometheus operator
    samples = Samples()
    samples.set('springtide_stalled{namespace="shop",update="ranker"}', 1)
    samples.set('springtide_watch_scope{namespace="",selector=""}', 1)
    samples.set("springtide_queue_depth", 3)
    honor = endpoint.get("honorLabels", False)
    prometheus = on_loopback(tmp_path, samples, labels=of_the_operator, honor=honor)
    try:
        (stalled,) = prometheus.wait_for("springtide_stalled")
        (scope,) = prometheus.wait_for("springtide_watch_scope")
        (depth,) = prometheus.wait_for("springtide_queue_depth")
    finally:
        prometheus.stop()
        samples.close()
    assert (stalled["metric"]["namespace"], stalled["metric"]["update"]) == ("shop", "ranker")
    assert stalled["metric"]["pod"] == "springtide-0"
    assert "namespace" not in scope["metric"], "the whole cluster is watched"
    assert depth["metric"]["namespace"] == "tides"


def test_the_trainer_image_is_kept_on_nodes_by_a_container_that_waits(render):
    documents = render(
        "imagePrefetch.enabled=true",
        "imagePrefetch.images={registry.example/own@sha256:1,trainer:v7}",
        "trainer.repository=trainer",
        "trainer.tag=v7",
        "imagePullSecrets={registry}",
        "imagePrefetch.nodeSelector.nvidia\\.com/gpu\\.present=yes",
        "imagePrefetch.tolerations[0].key=nvidia.com/gpu",
        "imagePrefetch.tolerations[0].operator=Exists",
    )
    (made,) = of_kind(documents, "DaemonSet")
    pod = made["spec"]["template"]["spec"]
    images = [container["image"] for container in pod["containers"]]
    assert images == ["trainer:v7", "registry.example/own@sha256:1"], "each once"
    assert pod["nodeSelector"] == {"nvidia.com/gpu.present": "yes"}
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert not any("nvidia.com/gpu" in str(each["resources"]) for each in pod["containers"])


def test_pods_that_keep_images_are_restricted_and_not_the_operators(render):
    documents = render("imagePrefetch.enabled=true", "podDisruptionBudget.enabled=true")
    (made,) = of_kind(documents, "DaemonSet")
    template = made["spec"]["template"]
    labels, pod = template["metadata"]["labels"], template["spec"]
    assert made["spec"]["selector"]["matchLabels"].items() <= labels.items()
    for document in documents:
        selector = (document.get("spec") or {}).get("selector") or {}
        own = selector.get("matchLabels") or selector
        assert document["kind"] == "DaemonSet" or not own or not own.items() <= labels.items()
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_the_api_server_accepts_what_keeps_images_on_nodes(render, installed):
    (made,) = of_kind(render("imagePrefetch.enabled=true"), "DaemonSet")
    command = ("create", "--dry-run=server", "--validate=strict", "-o", "name", "-f", "-")
    assert "springtide-prefetch" in installed.kubectl(*command, input=json.dumps(made))
