"""A ranker on a cluster, without a claim: data, models and storage are in an object store.

It is trained on lists, by bottleneck adapters that stay a part of it, judged by the order of its
lists, served and asked; and no credential is shown.
"""

import base64
import json

import pytest
from demo.cluster import SYSTEM
from demo.example import UPDATE
from e2e import served_answers, sharing
from e2e.recordings import Recording
from e2e.sharing import STAGE
from e2e.store_example import ACCOUNT, SECRET_NAME, StoreExample
from e2e.task_examples import ADAPTER_WIDTH
from local_cluster.object_store import ACCESS, SECRET
from safetensors.torch import load_file

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

STAGES = ("import", "probe", "tokenize", "train", "evaluate")


@pytest.fixture(scope="module")
def shown(tasks):
    """What is shown of an update of a ranker whose first generation is trained, judged and live."""
    with tasks("test_ranking") as recording:
        recording.example.goes_live(1, seconds=420)
        yield recording


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
    found = served_answers.compared(served, 1)
    assert (found.version, found.tensor) == ("1", ["score", "FP32", [served_answers.SAMPLE]])
    assert found.difference < 1e-5


def test_the_served_model_has_the_adapters_of_its_training(served):
    generation = served.generations()[1]
    assert generation["spec"]["recipe"]["training"]["method"]["type"] == "Adapter"
    folder = served.files(generation["status"]["artifact"]["uri"])
    weights = load_file(folder / "bottlenecks.safetensors")
    up = [weight for name, weight in weights.items() if name.endswith(".up.weight")]
    assert [weight.shape[1] for weight in up] == [ADAPTER_WIDTH] * 2
    # New ones are zero: the scores are those of the evaluation only if the server has these.
    assert all(weight.abs().max() > 1e-3 for weight in up)


def test_no_pod_has_a_claim_and_all_that_is_stored_is_in_the_bucket(served, shown):
    assert not served.get("persistentvolumeclaims").get("items")
    assert "persistentVolumeClaim" not in shown.objects()["pods"]
    artifact = served.generations()[1]["status"]["artifact"]
    home = f"{served.bucket}/storage/{served.namespace}/{UPDATE}"
    assert artifact["uri"].startswith(f"{home}/artifacts/sha256-")
    assert (served.files(artifact["uri"]) / "model.adapted.safetensors").is_file()
    for name in ("data", "reports", "results"):
        folder = served.store.files / home.removeprefix("s3://") / name
        assert [path for path in folder.rglob("*") if path.is_file()], name


@pytest.mark.parametrize("stage", sharing.DONE)
def test_two_pods_share_the_rows_of_a_stage_and_leave_no_shard(served, shown, stage):
    sharing.two_pods_shared_the_rows(shown, stage)
    home = served.store.files / f"{served.namespace}/storage/{served.namespace}/{UPDATE}"
    assert not list(home.glob("checkpoints/g1/*/**/*.*"))


def test_the_training_tokenized_nothing_that_was_there(shown):
    sharing.the_training_tokenized_nothing(shown)


def test_every_job_runs_as_the_service_account(shown):
    states = [json.loads(line)["object"] for line in shown.objects()["pods"].splitlines()]
    found = {
        (pod["metadata"]["labels"][STAGE], pod["spec"]["serviceAccountName"])
        for pod in states
        if STAGE in pod["metadata"]["labels"]
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
