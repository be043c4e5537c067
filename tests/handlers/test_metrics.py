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
