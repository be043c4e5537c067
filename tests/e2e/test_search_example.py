"""The example of Ranking without a cluster: `springtide-trainer run` on lists of a small search."""

import json

import pytest
import torch
import yaml
from demo.cluster import EXAMPLES
from e2e import small_model

from springtide_trainer.local.commands import main
from springtide_trainer.local.lineage import Generations
from springtide_trainer.storage import local_path

QUERIES = {"2026-01": 100, "2026-02": 100, "2026-03": 400}
"""The first two months are those of the cluster's scene."""


@pytest.fixture
def run(tmp_path):
    """Return a function that runs the example up to a moment."""
    small_model.publish(tmp_path / "tiny", head=False)
    (tmp_path / "data").mkdir()
    for month, queries in QUERIES.items():
        file = tmp_path / "data" / f"{month}.csv.gz"
        file.write_bytes(small_model.searches(month, queries))
    made = yaml.safe_load((EXAMPLES / "tasks" / "search.yaml").read_text())
    made["spec"]["model"]["maxLength"] = small_model.TOKENS
    made["spec"]["training"]["hyperparameters"] = small_model.RANKING
    # Both models are nearly perfect, so few groups show a difference.
    for rule in made["spec"]["gate"]["rules"][1:]:
        rule |= {"minEntities": 10, "maxRegression": {"absolute": "0.1"}}
    (tmp_path / "update.yaml").write_text(json.dumps(made))
    places = [f"--data={tmp_path / 'data'}", f"--model={tmp_path / 'tiny'}"]
    command = ["run", str(tmp_path / "update.yaml"), *places, f"--storage={tmp_path / 'out'}"]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield lambda through: main([*command, "--through", through])
    torch.set_num_threads(threads)


def test_two_months_of_searches_are_trained_on_and_accepted(run, tmp_path, capsys):
    codes = [run("2026-03-01"), run("2026-04-01")]
    out, errors = capsys.readouterr()
    assert codes == [0, 0], out + errors
    _, first, second = Generations.read(tmp_path / "out" / "shop" / "search").generations
    assert (first.verdict, second.verdict) == ("Accepted", "Accepted")
    assert "holdout rows of 400 entities (2026-03)" in out
    assert "first-relevant   mrr " in out

    written = json.loads((local_path(second.report) / "metrics.json").read_text())
    assert (written["task"], written["labels"]) == ("Ranking", [["score"], ["score"]])
    assert written["gains"] == {"irrelevant": "0", "partial": "1", "exact": "3"}
    assert list(written["datasets"][0]["metrics"]) == ["ndcg@10", "mrr", "map"]
    assert [rule[0] for rule in written["rules"]] == ["useful", "as-good-as-live", "first-relevant"]
