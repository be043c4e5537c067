"""What the chart adds on request: a disruption budget, a network policy, a ServiceMonitor."""

SELECTOR = {"app.kubernetes.io/name": "springtide", "app.kubernetes.io/instance": "springtide"}


def of_kind(documents: list[dict], kind: str) -> list[dict]:
    return [document for document in documents if document["kind"] == kind]


def test_none_of_them_is_there_by_default(render):
    optional = {"PodDisruptionBudget", "NetworkPolicy", "ServiceMonitor"}
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
    assert monitor["spec"]["endpoints"] == [
        {"port": "metrics", "path": "/metrics", "interval": "1m"}
    ]
    assert monitor["spec"]["namespaceSelector"] == {"matchNames": ["tides"]}
    selected = monitor["spec"]["selector"]["matchLabels"]
    assert selected.items() <= service["metadata"]["labels"].items()
    assert "metrics" in {port["name"] for port in service["spec"]["ports"]}
