"""A ranker on a cluster, without a claim: data, models and storage are in an object store.

It is trained on lists, judged by their order, served and asked; and no credential is shown.
"""

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from demo.cluster import EXAMPLES, SYSTEM
from demo.example import UPDATE
from e2e import small_model
from e2e.recordings import Recording, recorded
from e2e.store_example import ACCOUNT, SECRET_NAME, StoreExample
from local_cluster.object_store import ACCESS, SECRET

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

SCRIPT = Path(__file__).with_name("predicted_values.py")
MONTHS = ("2026-01", "2026-02")
STAGES = ("import", "probe", "train", "evaluate")


def search(spec):
    """Take model, columns and gate of the example of Ranking, and train for a short time."""
    example = yaml.safe_load((EXAMPLES / "tasks" / "search.yaml").read_text())["spec"]
    kept = {name: spec["model"][name] for name in ("initial", "maxLength")}
    spec["model"] = example["model"] | kept
    spec["data"]["source"]["columns"] = example["data"]["source"]["columns"]
    spec["gate"] = example["gate"]
    spec["training"]["hyperparameters"] = small_model.RANKING


@pytest.fixture(scope="module")
def shown(installed, node_cluster, node_object_store):
    """What is shown of an update of a ranker whose first generation is trained, judged and live."""
    example = StoreExample(installed, "small-search", node=node_cluster, store=node_object_store)

    def deliver():
        for month in MONTHS:
            example.deliver(f"{month}.csv.gz", small_model.searches(month))

    try:
        with recorded(example) as recording:
            example.begin(head=False, months=(), change=search, before=deliver)
            example.goes_live(1, seconds=420)
            yield recording
    finally:
        example.end()


@pytest.fixture
def served(shown) -> StoreExample:
    return shown.example


def test_the_first_ranker_is_accepted_by_the_order_of_its_lists(served):
    generation = served.generations()[1]
    assert generation["status"]["verdict"] == "Accepted"
    (useful, *_) = generation["status"]["evaluation"]["results"]
    assert (useful["metric"], useful["verdict"]) == ("ndcg@10", "Pass")
    assert "contributing entities" in useful["message"]


def test_the_served_scores_are_those_of_the_evaluation(served):
    evaluation = served.generations()[1]["status"]["evaluation"]
    report = served.store.committed(evaluation["report"])
    manifest = served.store.committed(evaluation["holdouts"][-1]["manifest"])
    host = served.get(f"service/{UPDATE}")["spec"]["clusterIP"]
    program = [sys.executable, str(SCRIPT), host, str(report), str(manifest)]
    done = subprocess.run(
        served.node.in_namespace(program), check=True, stdout=subprocess.PIPE, text=True
    )
    found = json.loads(done.stdout)
    assert found["tensor"] == ["score", "FP32", [found["rows"]]]
    assert (found["rows"], found["version"]) == (100, "1")
    assert found["difference"] < 1e-5


def test_no_pod_has_a_claim_and_all_that_is_stored_is_in_the_bucket(served, shown):
    assert not served.get("persistentvolumeclaims").get("items")
    assert "persistentVolumeClaim" not in shown.objects()["pods"]
    artifact = served.generations()[1]["status"]["artifact"]
    home = f"{served.bucket}/storage/{served.namespace}/{UPDATE}"
    assert artifact["uri"].startswith(f"{home}/artifacts/sha256-")
    assert (served.store.committed(artifact["uri"]) / "model.safetensors").is_file()
    for name in ("data", "reports", "results"):
        folder = served.store.files / home.removeprefix("s3://") / name
        assert [path for path in folder.rglob("*") if path.is_file()], name


def test_every_job_runs_as_the_service_account(shown):
    states = [json.loads(line)["object"] for line in shown.objects()["pods"].splitlines()]
    stage = "springtide.dev/stage"
    found = {
        (pod["metadata"]["labels"][stage], pod["spec"]["serviceAccountName"])
        for pod in states
        if stage in pod["metadata"]["labels"]
    }
    assert found == {(each, ACCOUNT) for each in STAGES}


def test_a_server_answers_the_warm_up_queries_of_the_bucket(shown):
    lines = [
        json.loads(line.split(" ", 3)[3])
        for name, log in shown.logs().items()
        if "/server/" in name
        for line in log.splitlines()
        if '"warmed up"' in line
    ]
    assert [each["answered"] for each in lines] == [32, 32]


@pytest.mark.survives(
    "Rights",
    "the credentials of an object store in the Secret of an update, on a whole cluster",
    "in no state of an object, Event, status, run file, log, metric or stored object; from the "
    "import to the served generation",
)
def test_no_credential_is_in_anything_that_is_shown_or_stored(served, shown):
    texts = everything(served, shown)
    secrets = {secret for plain in (ACCESS, SECRET) for secret in (plain, encoded(plain))}
    found = [name for name, text in texts.items() if any(each in text for each in secrets)]
    assert found == []

    # It was searched where a credential would be.
    logs = [name for name, log in shown.logs().items() if log]
    for stage in STAGES:
        assert any(f"-{stage}-" in name for name in logs), stage
    assert texts["jobs"].count(f'"secretRef":{{"name":"{SECRET_NAME}"}}') >= len(STAGES)
    for stage in STAGES:
        assert f'\\"stage\\":\\"{stage}\\"' in texts["jobs"], stage
    assert '"reason":"Promoted"' in texts["events"]
    assert f'"MODEL_URI","value":"{served.bucket}/' in texts["pods"]
    assert "springtide_server_request_seconds" in texts["metrics of the server"]
    assert "springtide_" in texts["metrics of the operator"]
    assert any("commit.json" in name for name in texts)


def encoded(text: str) -> str:
    """The text as a Secret has it."""
    return base64.b64encode(text.encode()).decode()


def everything(served: StoreExample, shown: Recording) -> dict[str, str]:
    """All texts by what they are: objects, logs, metrics and what is stored."""
    operator = (served.node.home / "pods").glob(f"{SYSTEM}_*/*/*.log")
    stored = (served.store.files / served.namespace).rglob("*")
    return {
        **shown.objects(),
        **shown.logs(),
        **{f"log of the operator {file}": file.read_text() for file in operator},
        **{str(path): path.read_text("latin-1") for path in stored if path.is_file()},
        "metrics of the server": shown.metrics(f"{UPDATE}:http", served.namespace),
        "metrics of the operator": shown.metrics("springtide:metrics", SYSTEM),
    }
