"""The recipe of a run: defaults that depend on the task are resolved into it."""

import pytest
from lifecycle.world import with_generation_one

from springtide_operator.lifecycle.state.recipe import probe_digest, recipe, recipe_hash

MODELS = {
    "Classification": {},
    "Ranking": {"task": "Ranking", "ranking": {"gains": {"0": "0", "1": "1"}}, "labels": None},
}


@pytest.mark.parametrize(
    ("task", "wanted", "resolved"),
    [
        ("Classification", {}, "log_loss"),
        ("Classification", {"metric": "auc"}, "auc"),
        ("Regression", {}, "rmse"),
        ("Regression", {"metric": "mae"}, "mae"),
        ("Ranking", {}, "ndcg@10"),
        ("Embedding", {}, "mrr"),
        ("CausalLM", {}, "perplexity"),
        ("MaskedLM", {}, "perplexity"),
    ],
)
def test_the_metric_of_early_stopping_follows_the_task(task, wanted, resolved) -> None:
    world = with_generation_one()
    world.edit(training={"earlyStopping": wanted}, model=world.spec["model"] | {"task": task})
    made = recipe(world.seen())
    assert made.training.early_stopping.metric == resolved
    world.edit(training={"earlyStopping": None})
    assert recipe(world.seen()).training.early_stopping is None


@pytest.mark.parametrize(
    ("task", "columns", "resolved"),
    [
        ("Ranking", {"group": "query"}, "query"),
        ("Ranking", {"group": "query", "entity": "customer"}, "customer"),
        ("Classification", {"group": "query"}, None),
    ],
)
def test_the_entity_of_a_ranking_is_its_group_unless_the_spec_names_one(task, columns, resolved):
    world = with_generation_one()
    data = world.spec["data"]
    kept = {name: data["source"]["columns"][name] for name in ("text", "label", "timestamp")}
    source = data["source"] | {"columns": kept | columns}
    world.edit(data=data | {"source": source}, model=world.spec["model"] | MODELS[task])
    made = recipe(world.seen()).data.source.columns
    assert (made.entity, made.group) == (resolved, "query")


def test_robustness_and_the_loss_are_part_of_the_recipe_and_its_hash():
    world = with_generation_one()
    hashes = [recipe_hash(recipe(world.seen()))]
    for ema in ("0.99", "0.999"):
        world.edit(training={"robustness": {"averaging": {"ema": ema}}})
        made = recipe(world.seen())
        assert made.training.robustness.averaging.ema == ema
        hashes.append(recipe_hash(made))
    world.edit(model=world.spec["model"] | {"classification": {"classWeights": "Balanced"}})
    hashes.append(recipe_hash(recipe(world.seen())))
    world.edit(training={"pruning": {"sparsity": "0.5"}})
    hashes.append(recipe_hash(recipe(world.seen())))
    probes = {probe_digest(recipe(world.seen()))}
    world.edit(training={"unlabelled": {"pseudoLabels": {}}})
    hashes.append(recipe_hash(recipe(world.seen())))
    assert len({*hashes}) == 6
    assert probe_digest(recipe(world.seen())) not in probes, "a probe refuses rows without a label"


AFFINITY = {
    "nodeAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {
                "weight": 1,
                "preference": {"matchExpressions": [{"key": "gpu", "operator": "Exists"}]},
            }
        ]
    }
}


@pytest.mark.parametrize(
    "changed",
    [
        {"compute": {"affinity": AFFINITY}},
        {"compute": {"topologySpreadConstraints": [{"topologyKey": "zone"}]}},
        {"compute": {"podLabels": {"team": "search"}}},
        {"compute": {"runtimeClassName": "nvidia"}},
        {"limits": {"maxGpuSecondsPerDay": 3600}},
    ],
    ids=lambda changed: str(next(iter(next(iter(changed.values()))))),
)
def test_where_pods_run_and_what_they_may_use_is_no_part_of_a_recipe(changed):
    world = with_generation_one()
    before = recipe(world.seen())
    world.edit(training=changed)
    assert recipe(world.seen()) == before
    world.edit(training={**changed, "hyperparameters": {"epochs": 2}})
    assert recipe(world.seen()) != before


def test_another_gpu_is_another_environment_and_the_same_evidence():
    world = with_generation_one()
    world.edit(training={"compute": {"gpusPerNode": 1}})
    before = recipe(world.seen())
    mig = {"gpusPerNode": 1, "gpu": {"resourceName": "nvidia.com/mig-1g.10gb"}}
    world.edit(training={"compute": mig})
    after = recipe(world.seen())
    assert after != before
    assert recipe_hash(after) == recipe_hash(before)
