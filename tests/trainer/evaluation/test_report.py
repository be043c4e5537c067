"""The content of the report, and that it contains no code."""

import json

import pytest
from trainer.training.conftest import recipe as a_recipe

from springtide_api.generation.spec import Recipe
from springtide_api.retained import Retained
from springtide_trainer.evaluation.report import render
from springtide_trainer.stages import evaluate

RETAINED = Retained().model_dump(mode="json")


@pytest.fixture(scope="module")
def described(shop) -> dict:
    out = shop.evaluate(shop.knowing, shop.other, job="page")
    return json.loads((shop.report(out) / "metrics.json").read_text())


def test_the_report_shows_rule_numbers_bound_interval_and_counts(described) -> None:
    page = render(described)
    assert "ranker, generation 2" in page
    assert "fine-tuned from generation 1" in page
    assert "2026-02-01T00:00:00+00:00" in page
    assert "auc &gt;= 0.55" in page
    assert "delta &gt; 0" in page
    assert page.count("<svg") == 2
    assert page.count('class="tag Pass"') == 3
    assert f"{described['datasets'][0]['entities']} entities" in page
    assert page.count("trivial baseline 0.5000") == len(described["rules"])
    unknown = render(described | {"trivial_baseline": [None] * len(described["rules"])})
    assert '<span class="range">trivial baseline' not in unknown
    assert "Left out" not in page
    window = described["window"] | {"excluded_generations": [4, 6], "excluded_rows": 1200}
    left_out = "1,200 rows that generations served before they were rolled back: 4, 6"
    assert left_out in render(described | {"window": window})


def test_the_report_loads_no_external_resources(described) -> None:
    page = render(described)
    assert "http://" not in page
    assert "https://" not in page
    assert "<script" not in page


@pytest.mark.survives(
    "Update",
    "markup in names of datasets and labels",
    "shown as text in the report",
)
def test_names_of_users_are_escaped_in_the_report(described) -> None:
    evil = "<script>alert(1)</script>"
    page = render(
        described
        | {
            "labels": [["no", evil], ["no", evil]],
            "datasets": [described["datasets"][0] | {"labels": {evil: 3}, "name": evil}],
        }
    )
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_the_settings_that_made_the_model_are_shown(described) -> None:
    assert described["settings"] == {}
    assert "distillation" not in render(described)
    plain = a_recipe()
    plain["model"] |= {"keepLayers": [2, 0]}
    plain["training"] = {
        "retention": {
            "distillation": {"weight": "0.5", "temperature": "2"},
            "ewc": {"strength": "100", "rows": 2000},
        },
        "pruning": {"sparsity": "0.5"},
        "unlabelled": {"pseudoLabels": {"threshold": "0.9"}},
    }
    reached = Retained.of(None, {"sparsity": 0.49987})
    settings = evaluate._settings(Recipe.model_validate(plain), reached)
    assert settings == {
        "model.keepLayers": "0, 2 of the initial model",
        "retention.distillation": "weight 0.5, temperature 2",
        "retention.ewc": "strength 100, gamma 0.9, Fisher information of at most 2,000 rows",
        "pruning": "sparsity 0.5; 0.4999 of the weights of linear layers are zero",
        "unlabelled.pseudoLabels": "threshold 0.9, weight 0.5",
    }
    page = render(described | {"settings": settings, "retained": reached.model_dump()})
    assert "<h2>Retention</h2>" not in page
    for name, text in settings.items():
        assert f"<dt>{name}</dt><dd>{text}</dd>" in page


def test_rows_that_the_parent_labelled_are_counted_by_label(described) -> None:
    made = {"offered": 1_300, "used": 1_204, "classes": {"no": 1_200, "<yes>": 4}, "message": ""}
    page = render(described | {"retained": {**RETAINED, "pseudo_labels": made}})
    assert "Of 1,300 usable training rows without a label, 1,204 were trained on" in page
    assert page.index("&lt;yes&gt;") < page.index('no</td><td class="n">1,200</td>')
    untrained = {**made, "used": 0, "classes": {}, "message": "the head is untrained"}
    page = render(described | {"retained": {**RETAINED, "pseudo_labels": untrained}})
    assert "label of the parent: the head is untrained." in page


def test_undefined_numbers_are_dashes_and_inconclusive(described) -> None:
    gaps = [[row[0], *[None] * 11, 30, 10] for row in described["rules"]]
    page = render(described | {"rules": gaps})
    assert page.count('class="tag Inconclusive"') == 3
    assert "<svg" not in page
    assert "no value of auc for the candidate" in page


def test_retention_has_replayed_rows_by_label_shortfalls_and_the_alpha_that_was_chosen(
    described,
) -> None:
    assert "Retention" not in render(described)
    classes = {"b&b": 2, "yes": 12} | {f"label {number}": 20 + number for number in range(40)}
    short = "1 of 2 classes have fewer than 5"
    replay = {"rows": 1034, "classes": classes, "median": None, "message": short, "slices": {}}
    alphas = {"0.5": 0.61, "0.7": 0.64, "1": 0.6}
    page = render(
        described
        | {
            "retained": {**RETAINED, "replay": replay, "alpha": 0.7, "alphas": alphas},
            "validated_by": "auc",
        }
    )
    assert "<h2>Retention</h2>" in page
    assert "1,034 rows of earlier windows were trained on again" in page
    assert "included: 1 of 2 classes have fewer than 5.</p>" in page
    replay["median"] = "2026-02-10T12:00:00Z"
    decayed = render(described | {"retained": {**RETAINED, "replay": replay}})
    assert "have fewer than 5. Half of them are of 2026-02-10 (UTC) or later.</p>" in decayed
    assert "Slice" not in page
    replay["slices"] = {"<DE>": 3, "FR": 1_200}
    by_slice = render(described | {"retained": {**RETAINED, "replay": replay}})
    table = by_slice[by_slice.index("<th>Slice, the fewest rows first</th>") :]
    assert table.index("&lt;DE&gt;") < table.index('FR</td><td class="n">1,200</td>')
    assert page.index("b&amp;b") < page.index(">yes<") < page.index("label 0")
    assert page.count("label 3") == 1  # of 42 labels the 32 with the fewest rows
    assert page.count("<td>chosen</td>") == 1
    assert page.index(">0.7<") < page.index("<td>chosen</td>") < page.index(">0.5<")
