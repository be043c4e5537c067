"""Series of updates: each shows what is true now, and none outlives its update."""

from springtide_operator.metrics import Metrics

SHOP = {"namespace": "search", "update": "shop"}


def analysis(metrics):
    """Verdict and value of each metric that has series."""
    found = {}
    for family in metrics.registry.collect():
        for sample in family.samples:
            if sample.name.startswith("springtide_analysis_"):
                place = sample.name.removeprefix("springtide_analysis_"), sample.labels["metric"]
                found[place] = sample.labels.get("verdict", sample.value)
    return found


def test_only_the_newest_verdict_and_value_of_each_metric_are_shown():
    metrics = Metrics()
    metrics.set_analysis(**SHOP, values={"errors": ("Pass", 0.01), "p99": ("Pass", 0.2)})
    metrics.set_analysis(**SHOP, values={"errors": ("NoData", None), "clicks": ("Fail", 0.0)})
    assert analysis(metrics) == {
        ("verdict", "errors"): "NoData",
        ("verdict", "clicks"): "Fail",
        ("value", "clicks"): 0.0,
    }


def test_after_a_bake_and_without_the_update_there_are_no_series():
    metrics = Metrics()
    metrics.set_analysis(**SHOP, values={"errors": ("Pass", 0.01)})
    metrics.set_analysis("search", "other", values={"errors": ("Fail", 1.0)})
    metrics.set_analysis(**SHOP, values={})
    assert analysis(metrics) == {("verdict", "errors"): "Fail", ("value", "errors"): 1.0}
    metrics.remove_update("search", "other")
    assert analysis(metrics) == {}


def test_a_number_that_an_update_has_no_longer_is_not_shown():
    metrics = Metrics()
    name = "springtide_live_generation"
    metrics.set_or_remove(metrics.live_generation, **SHOP, value=3)
    assert metrics.registry.get_sample_value(name, SHOP) == 3
    metrics.set_or_remove(metrics.live_generation, **SHOP, value=None)
    assert metrics.registry.get_sample_value(name, SHOP) is None
    metrics.set_or_remove(metrics.live_generation, **SHOP, value=0)
    assert metrics.registry.get_sample_value(name, SHOP) == 0
    metrics.remove_update(**SHOP)
    assert metrics.registry.get_sample_value(name, SHOP) is None


def test_a_counter_of_a_status_goes_on_where_it_was_and_is_read_as_a_counter():
    metrics = Metrics()
    total, each = "springtide_gpu_seconds_total", "springtide_generation_gpu_seconds_total"
    metrics.gpu_seconds.show(**SHOP, values={(): 7200})
    metrics.generation_gpu_seconds.show(**SHOP, values={("1",): 3600, ("2",): 3600})
    metrics.gpu_seconds.show("search", "other", values={(): 0})
    types = {family.name: family.type for family in metrics.registry.collect()}
    assert types["springtide_gpu_seconds"] == "counter"
    assert metrics.registry.get_sample_value(total, SHOP) == 7200
    assert metrics.registry.get_sample_value(each, SHOP | {"generation": "2"}) == 3600
    metrics.generation_gpu_seconds.show(**SHOP, values={("2",): 3600})
    assert metrics.registry.get_sample_value(each, SHOP | {"generation": "1"}) is None
    metrics.remove_update(**SHOP)
    assert metrics.registry.get_sample_value(total, SHOP) is None
    assert metrics.registry.get_sample_value(each, SHOP | {"generation": "2"}) is None
    assert metrics.registry.get_sample_value(total, SHOP | {"update": "other"}) == 0
