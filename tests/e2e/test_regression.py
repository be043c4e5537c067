"""Prices on a cluster: trained, judged by their errors, rolled out, and asked from the server.

The initial model comes from a hub.
"""

import json

import pytest
from demo.example import UPDATE
from e2e import model_hub, served_answers, small_model
from e2e.task_examples import prices
from trainer.hub.server import TOKEN

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

LATER = "2026-03"
NEXT = "2026-04"
LAST = "2026-05"


@pytest.fixture(scope="module")
def begun(tasks):
    """An update of prices and the hub of its initial model."""
    with tasks("test_regression") as given:
        yield given


@pytest.fixture(scope="module")
def served(begun):
    """The update, whose first generation is trained, judged and live."""
    example, _ = begun
    example.goes_live(1, seconds=420)
    return example


@pytest.fixture(scope="module")
def second(served):
    """Generation 2, trained by adapters on the month after, is live."""
    adapters = {"method": {"type": "LoRA", "lora": {"rank": 4}}}
    frozen = {"hyperparameters": {"freeze": {"embeddings": True}}}
    served.edit({"training": adapters | frozen})
    served.deliver(f"{LATER}.csv.gz", prices(LATER))
    served.request("run", "march")
    served.goes_live(2, seconds=420)


def the_server_has_the_values_of_the_evaluation(example, number):
    found = served_answers.compared(example, number)
    assert found.version == str(number)
    assert found.tensor == ["value", "FP32", [served_answers.SAMPLE]]
    assert found.difference < 1e-3


def test_the_initial_model_comes_from_the_hub_by_a_token_that_nothing_shows(served, begun):
    _, hub = begun
    imported = served.generations()[0]
    assert imported["spec"]["initial"]["uri"] == f"hf://{model_hub.NAME}@main"
    assert imported["status"]["artifact"]["commit"] == hub.commit
    shown = served.show("get", "iu,mg,jobs,pods,events", "--output=json")
    assert f"of hf://{model_hub.NAME}@main, commit {hub.commit}" in shown
    assert TOKEN not in shown
    written = served.folder("models").rglob("*")
    assert not [path for path in written if path.is_file() and TOKEN.encode() in path.read_bytes()]


def test_the_first_prices_are_accepted_by_their_error_and_served_as_they_were_judged(served):
    generation = served.generations()[1]
    assert generation["status"]["verdict"] == "Accepted"
    (useful, *_) = generation["status"]["evaluation"]["results"]
    assert (useful["metric"], useful["verdict"]) == ("mae", "Pass")
    assert "positives" not in useful["message"]

    the_server_has_the_values_of_the_evaluation(served, 1)


@pytest.mark.usefixtures("second")
def test_the_next_month_is_trained_by_adapters_and_compared_in_the_scale_of_the_first(served):
    kept = [
        json.loads(
            (
                served.files(served.generations()[number]["status"]["artifact"]["uri"])
                / "preprocess.json"
            ).read_text()
        )["regression"]
        for number in (1, 2)
    ]
    assert kept[0] == kept[1]
    assert served.generations()[2]["spec"]["recipe"]["training"]["method"]["type"] == "LoRA"
    assert float(kept[0]["spread"]) > 0


@pytest.mark.usefixtures("second")
def test_the_second_generation_replays_rows_of_the_first_window_and_reports_it(served):
    first, second = (served.generations()[number] for number in (1, 2))
    left = first["status"]["artifact"]["buffer"]
    assert first["status"]["training"]["replay"]["message"] == "the parent left no buffer"
    assert left["rows"] == small_model.ROWS
    assert second["spec"]["data"]["buffer"] == left
    assert second["spec"]["recipe"]["training"]["retention"]["replay"]["ratio"] == "0.25"

    training, replayed = second["status"]["training"], small_model.ROWS // 4
    assert training["replay"]["rows"] == replayed
    assert second["status"]["artifact"]["buffer"]["rows"] == 2 * small_model.ROWS
    metrics = dict(each.split("=") for each in training["metrics"])
    tried = {alpha: float(metrics[f"validation_alpha_{alpha}"]) for alpha in ("1", "0.8")}
    assert float(metrics["validation"]) == min(tried.values())
    assert float(tried[metrics["alpha"]]) == min(tried.values())

    report = served.files(second["status"]["evaluation"]["report"]) / "report.html"
    page = report.read_text()
    assert "<h2>Retention</h2>" in page
    assert f"{replayed} rows of earlier windows were trained on again" in page
    assert page.count("<td>chosen</td>") == 1


@pytest.mark.faults
@pytest.mark.usefixtures("second")
def test_a_month_after_starts_an_adapter_that_is_to_be_continued(served):
    lora, without = {"lora": {"continuation": "Continue"}}, {"interpolation": None}
    served.edit({"training": {"method": lora, "retention": without}})
    served.deliver(f"{NEXT}.csv.gz", prices(NEXT))
    served.request("run", "april")
    served.goes_live(3, seconds=420)

    second, third = (served.generations()[number] for number in (2, 3))
    assert "adapter" not in second["status"]["artifact"]
    assert third["spec"]["continuation"] == {
        "message": f"starts a new adapter: {UPDATE}-g2 left none"
    }
    left = third["status"]["artifact"]["adapter"]
    assert left["base"] == second["status"]["artifact"]["weightsDigest"]


@pytest.mark.faults
def test_the_last_month_is_trained_by_the_same_adapter_on_the_same_base(served):
    served.edit({"serving": {"optimise": {"quantization": "Int8Dynamic"}}})
    served.deliver(f"{LAST}.csv.gz", prices(LAST))
    served.request("run", "may")
    served.goes_live(4, seconds=420)

    third, fourth = (served.generations()[number] for number in (3, 4))
    taken = third["status"]["artifact"]["adapter"]
    assert fourth["spec"]["continuation"]["adapter"] == taken
    left = fourth["status"]["artifact"]["adapter"]
    assert (left["base"], left["generations"]) == (taken["base"], 2)
    files = {path.name for path in served.files(left["uri"]).iterdir()}
    assert files == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "springtide-manifest.json",
    }
    page = served.files(fourth["status"]["evaluation"]["report"]) / "report.html"
    assert fourth["spec"]["continuation"]["message"] in page.read_text()


@pytest.mark.faults
def test_the_last_month_is_judged_and_served_in_8_bit_integers(served):
    artifact = served.generations()[4]["status"]["artifact"]
    assert artifact["format"] == "onnx"
    assert artifact["servedDigest"] != artifact["weightsDigest"]
    assert (served.files(artifact["uri"]) / "model.onnx").is_file()
    the_server_has_the_values_of_the_evaluation(served, 4)
