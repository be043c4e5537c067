"""Series of updates: each shows what is true now, and none outlives its update."""

import re
from datetime import UTC, datetime

from docs.pages import ROOT

from springtide_api.generation.rollout import AnalysisSample
from springtide_api.update.status import Counters, GenerationRef, HistoryEntry, UpdateStatus
from springtide_operator.lifecycle.state.plan import Plan
from springtide_operator.metrics import Metrics

SHOP = {"namespace": "search", "update": "shop"}
OTHER = {"namespace": "search", "update": "other"}
NOW = datetime(2025, 3, 1, tzinfo=UTC)


def plan_of(samples=None, **status):
    """A plan with this status, and the newest verdict and value of these metrics."""
    newest = tuple(
        AnalysisSample(time=NOW, metric=metric, verdict=verdict, value=value)
        for metric, (verdict, value) in (samples or {}).items()
    )
    return Plan((), (), UpdateStatus(**status), None, samples=newest)


def used(total, by_generation):
    """The GPU seconds of an update and of its generations."""
    history = [
        HistoryEntry(number=n, verdict="Accepted", gpu_seconds=each)
        for n, each in by_generation.items()
    ]
    return plan_of(counters=Counters(gpu_seconds=total), history=history)


def analysis(metrics):
    """Verdict and value of each metric that has series."""
    found = {}
    for family in metrics.registry.collect():
        for sample in family.samples:
            if sample.name.startswith("springtide_analysis_"):
                place = sample.name.removeprefix("springtide_analysis_"), sample.labels["metric"]
                found[place] = sample.labels.get("verdict", sample.value)
    return found


def test_counters_whose_alert_fires_at_the_first_one_begin_at_zero():
    """Prometheus sees no increase where a series begins at 1."""
    page = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    alerts = re.findall(r"increase\((\w+)((?:\{[^}]*\})?)\[\w+\]\) > 0$", page, re.MULTILINE)
    assert len(alerts) == 2
    samples = [s for family in Metrics().registry.collect() for s in family.samples]
    for name, selector in alerts:
        wanted = dict(re.findall(r'(\w+)="(\w+)"', selector))
        found = [s for s in samples if s.name == name and wanted.items() <= s.labels.items()]
        assert found, name
        assert {s.value for s in found} == {0}


def test_every_reason_for_which_a_notification_is_dropped_begins_at_zero():
    page = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    name = "springtide_notifications_dropped_total"
    (row,) = re.findall(rf"^\| `{name}.*$", page, re.MULTILINE)
    samples = [s for family in Metrics().registry.collect() for s in family.samples]
    begun = {s.labels["reason"] for s in samples if s.name == name}
    assert begun == set(re.findall(r"`([a-z]+)`", row))


def test_only_the_newest_verdict_and_value_of_each_metric_are_shown():
    metrics = Metrics()
    before = plan_of({"errors": ("Pass", "0.01"), "p99": ("Pass", "0.2")})
    metrics.updates.show(**SHOP, plan=before)
    now = plan_of({"errors": ("NoData", None), "clicks": ("Fail", "0.0")})
    metrics.updates.show(**SHOP, plan=now)
    assert analysis(metrics) == {
        ("verdict", "errors"): "NoData",
        ("verdict", "clicks"): "Fail",
        ("value", "clicks"): 0.0,
    }


def test_after_a_bake_and_without_the_update_there_are_no_series():
    metrics = Metrics()
    metrics.updates.show(**SHOP, plan=plan_of({"errors": ("Pass", "0.01")}))
    metrics.updates.show(**OTHER, plan=plan_of({"errors": ("Fail", "1.0")}))
    metrics.updates.show(**SHOP, plan=plan_of())
    assert analysis(metrics) == {("verdict", "errors"): "Fail", ("value", "errors"): 1.0}
    metrics.updates.remove(**OTHER)
    assert analysis(metrics) == {}


def test_a_number_that_an_update_has_no_longer_is_not_shown():
    metrics = Metrics()
    name = "springtide_live_generation"
    metrics.updates.show(**SHOP, plan=plan_of(live=GenerationRef(name="shop-g3", number=3)))
    assert metrics.registry.get_sample_value(name, SHOP) == 3
    metrics.updates.show(**SHOP, plan=plan_of(live=None))
    assert metrics.registry.get_sample_value(name, SHOP) is None
    metrics.updates.show(**SHOP, plan=plan_of(live=GenerationRef(name="shop-g0", number=0)))
    assert metrics.registry.get_sample_value(name, SHOP) == 0
    metrics.updates.remove(**SHOP)
    assert metrics.registry.get_sample_value(name, SHOP) is None


def test_a_counter_of_a_status_goes_on_where_it_was_and_is_read_as_a_counter():
    metrics = Metrics()
    total, each = "springtide_gpu_seconds_total", "springtide_generation_gpu_seconds_total"
    metrics.updates.show(**SHOP, plan=used(7200, {1: 3600, 2: 3600}))
    metrics.updates.show(**OTHER, plan=used(0, {}))
    types = {family.name: family.type for family in metrics.registry.collect()}
    assert types["springtide_gpu_seconds"] == "counter"
    assert metrics.registry.get_sample_value(total, SHOP) == 7200
    assert metrics.registry.get_sample_value(each, SHOP | {"generation": "2"}) == 3600
    metrics.updates.show(**SHOP, plan=used(7200, {2: 3600}))
    assert metrics.registry.get_sample_value(each, SHOP | {"generation": "1"}) is None
    metrics.updates.remove(**SHOP)
    assert metrics.registry.get_sample_value(total, SHOP) is None
    assert metrics.registry.get_sample_value(each, SHOP | {"generation": "2"}) is None
    assert metrics.registry.get_sample_value(total, OTHER) == 0
