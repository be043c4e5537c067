"""The Job of one attempt: restricted, without an API token, and complete in one write."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import get_args

import pytest

from springtide_api.contract import (
    ArtifactRef,
    EvaluateInput,
    ImportInput,
    ProbeInput,
    RunFile,
    Stage,
    TokenizeInput,
)
from springtide_api.generation.spec import Recipe
from springtide_api.objects import Meta
from springtide_api.placement import Placement
from springtide_api.update.tracking import Tracking
from springtide_operator.lifecycle.state.plan import StartJob
from springtide_operator.manifests.job import job
from springtide_operator.manifests.job_pods import JobPods

STAGES = get_args(Stage)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
UPDATE = Meta(
    name="a" * 32,
    namespace="search",
    uid="01234567-89ab-cdef",
    generation=7,
    creation_timestamp=NOON,
)


def in_a_bucket(recipe: Recipe) -> Recipe:
    """Put model, data and storage into an object store."""
    plain = recipe.model_dump(mode="json", by_alias=True, exclude_none=True)
    plain["storage"] = {"uri": "s3://models/springtide"}
    plain["model"]["initial"]["uri"] = "gs://models/minilm"
    del plain["data"]["volume"]
    plain["data"] |= {"secretName": "object-store"}
    plain["data"]["source"]["uri"] = "s3://clicks"
    return Recipe.model_validate(plain)


def a_recipe(
    hyperparameters: dict | None = None, data: dict | None = None, **compute: object
) -> Recipe:
    return Recipe.model_validate(
        {
            "model": {"initial": {"uri": "file:///models/x"}, "labels": ["0", "1"]},
            "data": {
                "source": {
                    "uri": "file:///data/x",
                    "format": "CSV",
                    "columns": {"text": "q", "label": "l", "timestamp": "t"},
                },
                "volume": {"claimName": "data"},
                **(data or {}),
            },
            "training": {
                "compute": compute,
                "limits": {"activeDeadline": "90m"},
                "hyperparameters": hyperparameters or {},
            },
            "evaluation": {},
            "gate": {"rules": [{"name": "floor", "metric": "auc", "min": "0.5"}]},
            "storage": {"uri": "file:///models", "volume": {"claimName": "models"}},
        }
    )


def a_job(
    stage: str = "train",
    gpus: int = 0,
    pods: JobPods | None = None,
    bucket: bool = False,
    placement: Placement | None = None,
    data: dict | None = None,
    **compute: object,
) -> dict:
    recipe = a_recipe(data=data, **compute)
    run = RunFile(
        stage=stage,
        namespace="search",
        update=UPDATE.name,
        number=99999,
        attempt=10,
        job=f"{UPDATE.name}-01234-g99999-{stage}-10",
        home="/models/search/x",
        recipe=in_a_bucket(recipe) if bucket else recipe,
        probe=ProbeInput(
            now=NOON,
            cursor=NOON,
            quarantined=["2026-04", "2026-05"],
            excluded_generations=[4, 6],
        )
        if stage == "probe"
        else None,
    )
    start = StartJob(
        run=run,
        image="trainer:1",
        gpus=gpus,
        placement=placement,
        trigger="Request",
        request="run@1",
    )
    return job(UPDATE, start, "http://springtide:8080", pods=pods or JobPods())


REF = ArtifactRef(uri="file:///models/x", digest=f"sha256:{1:064}")


def scored_by(pods: int, placement: Placement | None = None) -> dict:
    """The Job of an evaluation that so many pods share."""
    asked = {"evaluate": EvaluateInput(candidate=REF, holdout=REF, pods=pods)}
    run = shared_run("evaluate", 10, asked, gpusPerNode=1)
    start = StartJob(run=run, image="trainer:1", gpus=1, placement=placement)
    return job(UPDATE, start, "http://springtide:8080")


def tokenized_by(pods: int, labels: dict[str, str] | None = None, **compute: object) -> dict:
    """The Job of so many pods that tokenize the rows of a training."""
    asked = {"tokenize": TokenizeInput(parent=REF, data=REF, pods=pods)}
    start = StartJob(run=shared_run("tokenize", 1, asked, **compute), image="trainer:1")
    return job(UPDATE, start, "http://springtide:8080", pods=JobPods(labels=labels or {}))


def shared_run(stage: Stage, attempt: int, asked: dict, **compute: object) -> RunFile:
    """The run file of pods that share the rows of a stage; its Job has the longest name."""
    return RunFile(
        stage=stage,
        namespace="search",
        update=UPDATE.name,
        number=99999,
        attempt=attempt,
        job=f"{UPDATE.name}-01234-g99999-{stage}-{attempt}",
        home="/models/search/x",
        recipe=a_recipe(**compute),
        **asked,
    )


def pod_of(made: dict) -> dict:
    return made["spec"]["template"]["spec"]


@pytest.mark.parametrize("stage", STAGES)
def test_every_pod_satisfies_the_restricted_pod_security_standard(stage: str) -> None:
    pod = pod_of(a_job(stage))
    container = pod["containers"][0]

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert not any("hostPath" in volume for volume in pod["volumes"])


def test_a_pod_has_no_api_token_but_one_for_progress_alone() -> None:
    pod = pod_of(a_job())
    tokens = [
        source["serviceAccountToken"]["audience"]
        for volume in pod["volumes"]
        for source in volume.get("projected", {}).get("sources", [])
    ]
    assert pod["automountServiceAccountToken"] is False
    assert tokens == ["springtide-progress"]


def test_the_run_file_comes_with_the_pod_template() -> None:
    made = a_job()
    annotations = made["spec"]["template"]["metadata"]["annotations"]
    run = RunFile.model_validate_json(annotations["springtide.dev/run"])
    assert run.job == made["metadata"]["name"]
    assert json.loads(annotations["springtide.dev/run"])["recipe"]["storage"]


def test_one_pod_is_one_attempt_and_the_update_alone_owns_it() -> None:
    made = a_job()
    assert made["spec"]["backoffLimit"] == 0
    (rule,) = made["spec"]["podFailurePolicy"]["rules"]
    assert (rule["action"], rule["onPodConditions"][0]["type"]) == ("FailJob", "DisruptionTarget")
    assert made["spec"]["podReplacementPolicy"] == "Failed"
    assert "ttlSecondsAfterFinished" not in made["spec"]
    owners = made["metadata"]["ownerReferences"]
    assert [(o["uid"], o["controller"]) for o in owners] == [(UPDATE.uid, True)]


@pytest.mark.parametrize("stage", ["import", "train", "evaluate"])
def test_no_deadline_of_a_job_counts_its_waiting_for_a_gpu(stage: str) -> None:
    assert "activeDeadlineSeconds" not in a_job(stage)["spec"]
    assert "activeDeadlineSeconds" not in pod_of(a_job(stage))


@pytest.mark.parametrize("stage", ["probe", "tokenize", "collect"])
def test_a_job_without_a_record_in_a_status_is_bounded_as_a_whole(stage: str) -> None:
    assert a_job(stage)["spec"]["activeDeadlineSeconds"] == 90 * 60


def test_a_job_says_how_many_gpus_its_pod_holds() -> None:
    assert a_job("train", gpus=2)["metadata"]["annotations"]["springtide.dev/gpus"] == "2"
    assert "springtide.dev/gpus" not in a_job("train")["metadata"]["annotations"]


def test_the_longest_name_is_a_label_value_still() -> None:
    assert len(a_job("evaluate")["metadata"]["name"]) <= 63


def test_gpus_and_placement_are_for_training_and_evaluation() -> None:
    wish = {"gpusPerNode": 1, "nodeSelector": {"gpu": "a100"}, "priorityClassName": "batch"}
    training, probe = pod_of(a_job("train", gpus=1, **wish)), pod_of(a_job("probe", **wish))
    assert training["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert training["nodeSelector"] == {"gpu": "a100"}
    assert training["priorityClassName"] == "batch"
    assert "nodeSelector" not in probe
    assert "nvidia.com/gpu" not in probe["containers"][0]["resources"]["limits"]


@pytest.mark.parametrize(
    ("gpus", "compute", "expected"),
    [(0, {}, "64Mi"), (1, {}, "64Mi"), (8, {}, "1Gi"), (8, {"sharedMemory": "4Gi"}, "4Gi")],
)
def test_several_gpus_get_shared_memory_to_exchange_gradients(gpus, compute, expected) -> None:
    pod = pod_of(a_job("train", gpus=gpus, gpusPerNode=gpus, **compute))
    (shared,) = (volume for volume in pod["volumes"] if volume["name"] == "shm")
    assert shared["emptyDir"] == {"medium": "Memory", "sizeLimit": expected}
    requested = pod["containers"][0]["resources"]["requests"].get("nvidia.com/gpu")
    assert requested == (str(gpus) if gpus else None)


def test_the_import_has_memory_of_its_own_and_other_light_stages_keep_theirs() -> None:
    def memory(stage: str) -> tuple[str, str]:
        wish = {"importMemory": "24Gi", "resources": {"memory": "16Gi"}}
        resources = pod_of(a_job(stage, **wish))["containers"][0]["resources"]
        return resources["requests"]["memory"], resources["limits"]["memory"]

    assert memory("import") == ("24Gi", "24Gi")
    assert memory("train") == memory("evaluate") == ("16Gi", "16Gi")
    assert memory("probe") == memory("collect") == ("512Mi", "2Gi")


def test_data_is_mounted_read_only_and_storage_where_its_uri_says() -> None:
    mounts = {m["name"]: m for m in pod_of(a_job())["containers"][0]["volumeMounts"]}
    assert mounts["data"] == {"name": "data", "mountPath": "/data", "readOnly": True}
    assert mounts["storage"]["mountPath"] == "/models"


@pytest.mark.parametrize("stage", STAGES)
def test_with_an_object_store_a_pod_mounts_no_claim_and_names_the_secret_alone(stage: str) -> None:
    made = a_job(stage, bucket=True)
    pod = pod_of(made)
    assert not [volume for volume in pod["volumes"] if "persistentVolumeClaim" in volume]
    assert {mount["name"] for mount in pod["containers"][0]["volumeMounts"]} == {
        volume["name"] for volume in pod["volumes"]
    }
    (source,) = pod["containers"][0]["envFrom"]
    assert source == {"secretRef": {"name": "object-store"}}
    assert "envFrom" not in pod_of(a_job(stage))["containers"][0]
    assert json.dumps(made).count("object-store") == 1 + 1  # the variables, and the run file


@pytest.mark.parametrize("secret", ["object-store", None])
def test_the_secret_of_trackers_may_be_missing_and_loses_against_that_of_the_data(secret) -> None:
    run = an_import("file:///models/minilm").model_copy(
        update={
            "stage": "train",
            "tracking": Tracking(report_to=["MLflow"], secret_name="trackers"),
            "recipe": a_recipe(data={"secretName": secret}),
        }
    )
    made = job(UPDATE, StartJob(run=run, image="trainer:1"), "http://springtide:8080")
    optional, *required = pod_of(made)["containers"][0]["envFrom"]
    assert optional == {"secretRef": {"name": "trackers", "optional": True}}
    assert required == ([{"secretRef": {"name": secret}}] if secret else [])


@pytest.mark.parametrize("stage", STAGES)
def test_the_service_account_of_an_update_replaces_that_of_the_installation(stage: str) -> None:
    pods = JobPods(service_account_name="trainer")
    pod = pod_of(a_job(stage, pods=pods, data={"serviceAccountName": "clicks-reader"}))
    assert pod["serviceAccountName"] == "clicks-reader"
    assert pod["automountServiceAccountToken"] is False
    assert pod_of(a_job(stage, pods=pods))["serviceAccountName"] == "trainer"
    assert "serviceAccountName" not in pod_of(a_job(stage))


def test_an_evaluation_in_shards_is_an_indexed_job_of_pods_with_a_gpu_each() -> None:
    made, alone = scored_by(32), scored_by(1)
    wanted = {"completions": 32, "parallelism": 32, "completionMode": "Indexed", "backoffLimit": 0}
    assert wanted.items() <= made["spec"].items()
    assert "completionMode" not in alone["spec"]
    assert pod_of(made) == pod_of(alone)
    assert pod_of(made)["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_rows_are_tokenized_by_an_indexed_job_of_pods_without_a_gpu_on_any_node() -> None:
    placed = {"nodeSelector": {"gpu": "a100"}, "priorityClassName": "batch"}
    made = tokenized_by(32, gpusPerNode=2, nodes=2, **placed)
    wanted = {"completions": 32, "parallelism": 32, "completionMode": "Indexed", "backoffLimit": 0}
    assert wanted.items() <= made["spec"].items()
    assert (made["apiVersion"], made["kind"]) == ("batch/v1", "Job")
    assert not {"nodeSelector", "priorityClassName"} & pod_of(made).keys()
    assert pod_of(made)["containers"][0]["resources"] == {
        "requests": {"cpu": "1", "memory": "1Gi"},
        "limits": {"cpu": "1", "memory": "2Gi"},
    }
    assert "springtide.dev/gpus" not in made["metadata"]["annotations"]


def test_an_evicted_pod_that_tokenizes_is_replaced_and_one_that_fails_ends_its_job() -> None:
    """There is no next attempt: the training does what is missing."""
    made = tokenized_by(4)
    (rule,) = made["spec"]["podFailurePolicy"]["rules"]
    assert (rule["action"], rule["onPodConditions"][0]["type"]) == ("Ignore", "DisruptionTarget")
    assert (made["spec"]["backoffLimit"], made["spec"]["podReplacementPolicy"]) == (0, "Failed")


def test_of_pods_that_tokenize_the_queue_of_the_installation_may_admit_some() -> None:
    queue = {"kueue.x-k8s.io/queue-name": "all-jobs"}
    queued, free = tokenized_by(4, queue), tokenized_by(4)
    assert queued["metadata"]["annotations"]["kueue.x-k8s.io/job-min-parallelism"] == "1"
    assert queue.items() <= queued["metadata"]["labels"].items()
    assert queued["spec"]["suspend"] is True
    assert "kueue.x-k8s.io/job-min-parallelism" not in free["metadata"]["annotations"]


def test_threads_follow_the_processor_limit() -> None:
    env = {e["name"]: e for e in pod_of(a_job())["containers"][0]["env"]}
    source = env["OMP_NUM_THREADS"]["valueFrom"]["resourceFieldRef"]
    assert source == {"containerName": "trainer", "resource": "limits.cpu"}


@pytest.mark.parametrize(
    ("deterministic", "gpus", "expected"),
    [(True, 1, ":4096:8"), (False, 1, None), (None, 1, None), (True, 0, None)],
)
def test_deterministic_training_on_a_gpu_fixes_the_workspace_of_cublas(
    deterministic, gpus, expected
) -> None:
    options = {"hyperparameters": {"deterministic": deterministic}, "gpusPerNode": gpus}
    environment = pod_of(a_job(gpus=gpus, **options))["containers"][0]["env"]
    found = {each["name"]: each.get("value") for each in environment}
    assert found.get("CUBLAS_WORKSPACE_CONFIG") == expected


def test_a_probe_remembers_what_it_was_started_for() -> None:
    annotations = a_job("probe")["metadata"]["annotations"]
    assert annotations["springtide.dev/request"] == "run@1"
    assert annotations["springtide.dev/trigger"] == "Request"
    assert annotations["springtide.dev/spec-generation"] == "7"
    assert datetime.fromisoformat(annotations["springtide.dev/cursor"]) == NOON
    assert annotations["springtide.dev/quarantined"] == "2026-04,2026-05"
    assert annotations["springtide.dev/excluded-generations"] == "4,6"


@pytest.mark.parametrize("stage", STAGES)
def test_what_the_installation_adds_is_in_every_job(stage: str) -> None:
    rules = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}
    given = {
        "imagePullSecrets": ["registry", "mirror"],
        "serviceAccountName": "trainer",
        "labels": {"team": "search"},
        "affinity": {"nodeAffinity": rules},
        "runtimeClassName": "gvisor",
    }
    made = a_job(stage, pods=JobPods.model_validate(given))
    pod = pod_of(made)

    assert pod["imagePullSecrets"] == [{"name": "registry"}, {"name": "mirror"}]
    assert pod["serviceAccountName"] == "trainer"
    assert pod["affinity"] == {"nodeAffinity": rules}
    assert pod["runtimeClassName"] == "gvisor"
    for labelled in (made, made["spec"]["template"]):
        labels = labelled["metadata"]["labels"]
        assert (labels["team"], labels["springtide.dev/stage"]) == ("search", stage)
    # A service account that is named gives the pod no token all the same.
    assert pod["automountServiceAccountToken"] is False


def variables(made: dict) -> dict[str, str]:
    container = pod_of(made)["containers"][0]
    return {each["name"]: each.get("value") for each in container["env"]}


@pytest.mark.parametrize("endpoint", ["https://mirror.example/hub", ""])
def test_only_the_import_of_a_model_of_a_hub_gets_its_endpoint(endpoint: str) -> None:
    start = StartJob(run=an_import("hf://shop/minilm@main"), image="trainer:1")
    made = job(UPDATE, start, "http://springtide:8080", hub_endpoint=endpoint)
    assert variables(made)["HF_ENDPOINT"] == endpoint  # a key of the Secret cannot replace it
    assert variables(made)["HF_HUB_OFFLINE"] == "1"
    other = StartJob(run=an_import("file:///models/minilm"), image="trainer:1")
    made = job(UPDATE, other, "http://springtide:8080", hub_endpoint=endpoint)
    assert "HF_ENDPOINT" not in variables(made)


def an_import(uri: str) -> RunFile:
    return RunFile(
        stage="import",
        namespace="search",
        update=UPDATE.name,
        number=0,
        job="g0-import-1",
        home="/models/search/x",
        recipe=a_recipe(),
        imported=ImportInput(uri=uri),
    )


@pytest.mark.parametrize(
    "resource", ["nvidia.com/gpu.shared", "nvidia.com/mig-1g.10gb", "amd.com/gpu"]
)
def test_the_gpu_is_requested_by_the_name_of_its_resource(resource: str) -> None:
    made = a_job("evaluate", gpus=1, gpu={"resourceName": resource})
    resources = pod_of(made)["containers"][0]["resources"]
    assert resources["limits"][resource] == resources["requests"][resource] == "1"
    assert "nvidia.com/gpu" not in resources["limits"]


def nodes(key: str) -> dict:
    term = {"matchExpressions": [{"key": key, "operator": "In", "values": ["a", "b"]}]}
    return {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}


PLACED = Placement.model_validate(
    {
        "affinity": {"nodeAffinity": nodes("of-the-update")},
        "topologySpreadConstraints": [{"topologyKey": "zone"}],
        "podLabels": {"team": "search", "cost-centre": "c9"},
        "runtimeClassName": "nvidia",
    }
)


def test_an_update_says_where_its_pods_run() -> None:
    made = a_job("train", placement=PLACED)
    pod = pod_of(made)
    assert pod["affinity"] == {"nodeAffinity": nodes("of-the-update")}
    assert pod["topologySpreadConstraints"] == [
        {
            "maxSkew": 1,
            "topologyKey": "zone",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {"springtide.dev/stage": "train"}},
        }
    ]
    assert pod["runtimeClassName"] == "nvidia"
    assert "podLabels" not in pod
    for labelled in (made, made["spec"]["template"]):
        labels = labelled["metadata"]["labels"]
        assert (labels["team"], labels["springtide.dev/stage"]) == ("search", "train")
    digest = made["metadata"]["annotations"]["springtide.dev/placement"]
    assert digest == PLACED.digest()


def test_what_an_update_says_replaces_what_the_installation_says_for_all_jobs() -> None:
    podly = {"preferredDuringSchedulingIgnoredDuringExecution": []}
    all_jobs = JobPods.model_validate(
        {
            "affinity": {"nodeAffinity": nodes("of-all"), "podAntiAffinity": podly},
            "topologySpreadConstraints": [{"topologyKey": "host", "maxSkew": 2}],
            "labels": {"team": "platform", "stage": "prod"},
            "runtimeClassName": "gvisor",
        }
    )
    pod = pod_of(made := a_job("train", pods=all_jobs, placement=PLACED))
    assert pod["affinity"] == {"nodeAffinity": nodes("of-the-update"), "podAntiAffinity": podly}
    assert [each["topologyKey"] for each in pod["topologySpreadConstraints"]] == ["zone"]
    assert pod["runtimeClassName"] == "nvidia"
    labels = made["metadata"]["labels"]
    assert (labels["team"], labels["stage"], labels["cost-centre"]) == ("search", "prod", "c9")
    other = pod_of(a_job("train", pods=all_jobs, placement=Placement()))
    assert other["affinity"]["nodeAffinity"] == nodes("of-all")
    assert other["topologySpreadConstraints"] == [{"topologyKey": "host", "maxSkew": 2}]
    assert other["runtimeClassName"] == "gvisor"


@pytest.mark.parametrize("stage", ["train", "evaluate"])
def test_a_job_in_a_queue_is_created_suspended_and_admitted_as_a_whole(stage: str) -> None:
    made = a_job(stage, placement=Placement(queue_name="gpus"))
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    assert "queueName" not in pod_of(made)
    assert made["spec"]["suspend"] is True
    named = {*made["metadata"]["annotations"], *made["spec"]["template"]["metadata"]["labels"]}
    assert not [key for key in named if "kueue" in key], "neither a partial admission nor a pod's"


def test_kueue_may_admit_some_pods_of_an_evaluation_in_shards() -> None:
    """Its pods may be more than the whole quota has GPUs for, and it would never be admitted."""
    fewest = "kueue.x-k8s.io/job-min-parallelism"
    made = scored_by(2, Placement(queue_name="gpus"))
    assert made["metadata"]["annotations"][fewest] == "1"
    for other in (scored_by(2), scored_by(1, Placement(queue_name="gpus"))):
        assert fewest not in other["metadata"]["annotations"]


def test_a_job_without_a_queue_is_not_created_suspended() -> None:
    made = a_job("train", placement=Placement())
    assert "suspend" not in made["spec"]
    assert "kueue.x-k8s.io/queue-name" not in made["metadata"]["labels"]


def test_a_queue_of_the_installation_is_for_all_jobs_and_that_of_an_update_replaces_it() -> None:
    pods = JobPods(labels={"kueue.x-k8s.io/queue-name": "cpus", "team": "search"})
    for placement, queue in ((None, "cpus"), (Placement(queue_name="gpus"), "gpus")):
        made = a_job("train" if placement else "probe", pods=pods, placement=placement)
        assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == queue
        assert made["spec"]["suspend"] is True
        assert "kueue.x-k8s.io/queue-name" not in made["spec"]["template"]["metadata"]["labels"]


def test_a_job_without_a_placement_names_none() -> None:
    for placement in (None, Placement()):
        made = a_job("train", placement=placement)
        assert "springtide.dev/placement" not in made["metadata"]["annotations"]
        assert "affinity" not in pod_of(made)
