"""A ranker on a cluster: trained on lists, judged by their order, and asked from the server."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from demo.cluster import EXAMPLES
from demo.example import UPDATE
from e2e import small_model

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

SCRIPT = Path(__file__).with_name("predicted_values.py")
MONTHS = ("2026-01", "2026-02")


def search(spec):
    """Take model, columns and gate of the example of Ranking, and train for a short time."""
    example = yaml.safe_load((EXAMPLES / "tasks" / "search.yaml").read_text())["spec"]
    kept = {name: spec["model"][name] for name in ("initial", "maxLength")}
    spec["model"] = example["model"] | kept
    spec["data"]["source"]["columns"] = example["data"]["source"]["columns"]
    spec["gate"] = example["gate"]
    spec["training"]["hyperparameters"] = small_model.RANKING


@pytest.fixture(scope="module")
def served(small):
    """An update of a ranker whose first generation is trained, judged and live."""
    example = small("search")

    def deliver():
        for month in MONTHS:
            example.deliver(f"{month}.csv.gz", small_model.searches(month))

    example.begin(head=False, months=(), change=search, before=deliver)
    example.goes_live(1, seconds=420)
    return example


def on_this_machine(example, uri):
    """The path behind a location on the claim of the models."""
    return example.folder("models") / uri.removeprefix("file:///models/")


def test_the_first_ranker_is_accepted_by_the_order_of_its_lists(served):
    generation = served.generations()[1]
    assert generation["status"]["verdict"] == "Accepted"
    (useful, *_) = generation["status"]["evaluation"]["results"]
    assert (useful["metric"], useful["verdict"]) == ("ndcg@10", "Pass")
    assert "contributing entities" in useful["message"]


def test_the_served_scores_are_those_of_the_evaluation(served):
    evaluation = served.generations()[1]["status"]["evaluation"]
    report = on_this_machine(served, evaluation["report"])
    manifest = on_this_machine(served, evaluation["holdouts"][-1]["manifest"])
    host = served.get(f"service/{UPDATE}")["spec"]["clusterIP"]
    program = [sys.executable, str(SCRIPT), host, str(report), str(manifest)]
    done = subprocess.run(
        served.node.in_namespace(program), check=True, stdout=subprocess.PIPE, text=True
    )
    found = json.loads(done.stdout)
    assert found["tensor"] == ["score", "FP32", [found["rows"]]]
    assert (found["rows"], found["version"]) == (100, "1")
    assert found["difference"] < 1e-5
