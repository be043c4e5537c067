"""The client against a real Prometheus."""

import pytest
import yaml
from docs.pages import ROOT
from local_cluster.prometheus import Samples, on_loopback

from springtide_api.update.analysis import Analysis
from springtide_api.update.rollout import Rollout
from springtide_operator.lifecycle.analysis.queries import counted
from springtide_operator.ports.prometheus import Answer, Prometheus

pytestmark = pytest.mark.prometheus


@pytest.fixture
async def asked(prometheus, samples):
    """Asks the Prometheus of the session, which has two series of `analysed`."""
    samples.set('analysed{generation="1",role="live"}', 0.25)
    samples.set('analysed{generation="2",role="live"}', 0.5)
    prometheus.wait_for("count(analysed) == 2")
    client = Prometheus(frozenset({prometheus.url.removeprefix("http://")}))

    async def ask(expression: str) -> Answer:
        return await client.ask(prometheus.url, expression)

    yield ask
    await client.close()


@pytest.mark.parametrize(
    ("expression", "answer"),
    [
        ('analysed{generation="1"}', Answer(0.25)),
        ("sum(analysed)", Answer(0.75)),
        ("scalar(sum(analysed))", Answer(0.75)),
        ('analysed{generation="3"}', Answer(None, "no series")),
        ("sum(analysed) / 0 * 0", Answer(None, "the value is nan")),
        ("sum(analysed) / 0", Answer(None, "the value is inf")),
        ("analysed", Answer(None, "2 series; aggregate them, such as with sum()", True)),
        (
            "analysed[1m]",
            Answer(None, "the query returns a range or a text; it must return one number", True),
        ),
    ],
)
async def test_a_query_is_a_number_or_says_why_it_is_none(asked, expression, answer):
    assert await asked(expression) == answer


@pytest.mark.parametrize("expression", ["sum(analysed", "analysed{", "sum by", "rate(analysed)"])
async def test_a_syntax_error_is_told_in_the_words_of_prometheus(asked, expression):
    found = await asked(expression)
    assert found.invalid
    assert found.problem.startswith('Prometheus: invalid parameter "query": ')
    assert "parse error" in found.problem or "expected type" in found.problem


async def test_series_that_do_not_match_are_an_error_of_the_query(asked):
    found = await asked("analysed * ignoring(generation) group_right() analysed")
    assert found.invalid
    assert "many-to-many" in found.problem or "duplicate series" in found.problem


async def test_the_scrape_configuration_of_the_documentation_copies_the_labels_of_pods(tmp_path):
    page = (ROOT / "docs/how-to/analysis.md").read_text(encoding="utf-8")
    text = page.partition("```yaml\nscrape_configs:")[2].partition("```")[0]
    (declared,) = yaml.safe_load(text)
    prefix = "__meta_kubernetes_pod_label_springtide_dev_"
    pod = {
        f"{prefix}generation": "6",
        f"{prefix}role": "live",
        "__meta_kubernetes_pod_container_port_name": "http",
        "__meta_kubernetes_namespace": "shop",
        "__meta_kubernetes_pod_name": "ranker-7d-x",
    }
    samples = Samples()
    samples.set('copied{generation="of the server"}', 1)
    own = on_loopback(tmp_path, samples, labels=pod, relabel=declared["relabel_configs"])
    try:
        (found,) = own.wait_for("copied")
        wanted = {"namespace": "shop", "pod": "ranker-7d-x", "generation": "6", "role": "live"}
        assert wanted.items() <= found["metric"].items()
        assert found["metric"]["exported_generation"] == "of the server"
    finally:
        own.stop()
        samples.close()


def alerts():
    """Expression of each alert of the documentation, by its name."""
    page = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    text = page.partition("## Alerts")[2].partition("```yaml")[2].partition("```")[0]
    (group,) = yaml.safe_load(text)["spec"]["groups"]
    return {rule["alert"]: rule["expr"] for rule in group["rules"]}


@pytest.mark.parametrize("expression", alerts().values(), ids=alerts().keys())
async def test_prometheus_takes_the_expression_of_each_alert(asked, expression):
    assert not (await asked(f"count({expression})")).invalid


async def test_an_alert_that_waits_for_days_survives_a_restart_of_the_operator(prometheus, samples):
    update = 'namespace="alerts",update="a"'
    metrics = {"SpringtidePinned": "springtide_pinned", "SpringtideNothingTrained": STALLED}

    def firing(alert):
        found = [each["metric"] for each in prometheus.query(alerts()[alert])]
        return [each for each in found if each["namespace"] == "alerts"]

    for alert, metric in metrics.items():
        samples.set(f'{metric}{{{update},pod="old"}}', 1)
        prometheus.wait_for(f"{metric}{{{update}}}")
        before = firing(alert)
        samples.remove(f'{metric}{{{update},pod="old"}}')
        prometheus.wait_for(f"absent({metric}{{{update}}})")
        without = firing(alert)
        samples.set(f'{metric}{{{update},pod="new"}}', 1)
        prometheus.wait_for(f"{metric}{{{update}}}")
        assert before == without == firing(alert) == [{"namespace": "alerts", "update": "a"}]


@pytest.mark.parametrize(
    "metric", ["springtide_queue_oldest_seconds", "springtide_loop_lag_seconds"]
)
async def test_the_alert_for_an_overload_goes_on_while_the_kubelet_restarts_the_operator(
    prometheus, samples, metric
):
    series = f'{metric}{{pod="{metric}"}}'
    for value in (130, None, 0):
        if value is None:
            samples.remove(series)
            prometheus.wait_for(f"absent({series})")
        else:
            samples.set(series, value)
            prometheus.wait_for(f"{series} == {value}")
        found = prometheus.query(alerts()["SpringtideOverloaded"])
        assert metric in [each["metric"]["pod"] for each in found], value


async def test_an_update_that_serves_nothing_trained_alerts_and_one_that_does_is_quiet(
    prometheus, samples
):
    expression = alerts()["SpringtideNothingTrained"]
    for name in ("initial", "trained"):
        samples.set(f'{STALLED}{{namespace="trained",update="{name}"}}', 0)
    series = 'springtide_served_data_through_seconds{namespace="trained",update="trained"}'
    samples.set(series, 1.7e9)
    prometheus.wait_for(series)
    prometheus.wait_for(f'count({STALLED}{{namespace="trained"}}) == 2')
    found = [each["metric"] for each in prometheus.query(expression)]
    assert {"namespace": "trained", "update": "initial"} in found
    assert {"namespace": "trained", "update": "trained"} not in found


STALLED = "springtide_stalled"
SERIES = "springtide_server_request_seconds"
LABELS = 'namespace="shop",pod="ranker-7d-x",generation="6"'


def traffic(samples, ok, errors):
    """What the reference server shows after so many requests, each within 0.1 s."""
    for outcome, count in (("ok", ok), ("error", errors)):
        labels = f'{LABELS},outcome="{outcome}"'
        samples.set(f"{SERIES}_count{{{labels}}}", count)
        for limit, share in (("0.05", 0.5), ("0.1", 1), ("+Inf", 1)):
            samples.set(f'{SERIES}_bucket{{{labels},le="{limit}"}}', count * share)


async def test_the_queries_of_the_documentation_give_one_number_each(asked, prometheus, samples):
    page = (ROOT / "docs/how-to/analysis.md").read_text(encoding="utf-8")
    block = yaml.safe_load(page.partition("```yaml\n")[2].partition("```")[0])
    analysis = Analysis.model_validate(block["rollout"]["analysis"])
    traffic(samples, 100, 0)
    prometheus.wait_for(f"{SERIES}_count{{{LABELS}}} == 100")
    traffic(samples, 290, 10)
    prometheus.wait_for(f'{SERIES}_count{{{LABELS},outcome="error"}} == 10')
    replaced = {"namespace": "shop", "target": "ranker|ranker-eu", "generation": "6"}
    found = {}
    for metric in analysis.metrics:
        query = metric.value.query
        for name, value in replaced.items():
            query = query.replace(f"{{{{{name}}}}}", value)
        found[metric.name] = (await asked(query)).value
    assert 0.01 < found["error-rate"] < 0.1  # 10 of 200; rates are extrapolated
    assert 0.05 < found["latency-p99"] <= 0.1


async def test_the_ratio_of_the_documentation_counts_the_requests_of_a_generation(
    asked, prometheus, samples
):
    page = (ROOT / "docs/how-to/analysis.md").read_text(encoding="utf-8")
    _, _, section = page.partition("## Compare a canary")
    block = yaml.safe_load(section.partition("```yaml\n")[2].partition("```")[0])
    rollout = Rollout.model_validate(
        {**block["rollout"], "targets": [{"targetRef": {"name": "ranker"}, "container": "server"}]}
    )
    assert rollout.strategy.canary.steps[0].min_requests == 1000
    (metric,) = rollout.analysis.metrics
    for ok, errors in ((1000, 10), (1300, 25)):
        traffic(samples, ok, errors)
        prometheus.wait_for(f'{SERIES}_count{{{LABELS},outcome="error"}} == {errors}')
    found = {}
    for name in ("bad", "total"):
        selector = getattr(metric.ratio, name)
        for placeholder, value in (("namespace", "shop"), ("generation", "6")):
            selector = selector.replace(f"{{{{{placeholder}}}}}", value)
        found[name] = (await asked(counted(selector, 600))).value
    assert found["bad"] >= 15
    assert found["total"] - found["bad"] >= 300
