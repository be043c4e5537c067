"""The operator's Deployment, and the settings that the chart gives it."""

import json

from springtide_operator import settings


def one(documents: list[dict], kind: str) -> dict:
    (found,) = [document for document in documents if document["kind"] == kind]
    return found


def pod_of(documents: list[dict]) -> dict:
    return one(documents, "Deployment")["spec"]["template"]["spec"]


def environment(documents: list[dict]) -> dict[str, str]:
    (container,) = pod_of(documents)["containers"]
    return {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}


def test_helm_lint_has_nothing_to_say(lint):
    assert lint.returncode == 0, lint.stdout + lint.stderr


def test_the_pod_satisfies_pod_security_restricted(render):
    pod = pod_of(render())
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 65532
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert [volume for volume in pod["volumes"] if "emptyDir" not in volume] == []


def test_one_operator_runs_and_is_replaced_only_when_it_is_gone(render):
    spec = one(render(), "Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_the_progress_address_is_that_of_the_service(render):
    documents = render("trainer.repository=registry.example/trainer", "trainer.tag=v7")
    service = one(documents, "Service")
    given = environment(documents)
    assert given["SPRINGTIDE_TRAINER_IMAGE"] == "registry.example/trainer:v7"
    address = f"http://{service['metadata']['name']}.tides.svc:8080"
    assert given["SPRINGTIDE_PROGRESS_URL"] == address
    (container,) = pod_of(documents)["containers"]
    named = {port["name"] for port in container["ports"]}
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= named


def test_the_charts_defaults_are_those_of_the_operator(render):
    given = environment(render())
    bare = {name: given[name] for name in ("SPRINGTIDE_TRAINER_IMAGE", "SPRINGTIDE_PROGRESS_URL")}
    named = {"SPRINGTIDE_LEASE_NAMESPACE", "SPRINGTIDE_LEASE_NAME"}
    places = {name: given[name] for name in named}
    assert settings.read(given) == settings.read(bare | places)
    assert places == {
        "SPRINGTIDE_LEASE_NAMESPACE": "tides",
        "SPRINGTIDE_LEASE_NAME": "springtide",
    }


def test_the_operator_reads_what_the_values_set(render):
    given = environment(
        render(
            "operator.workers=2",
            "operator.maxProbes=10000",
            "operator.maxProbesPerNamespace=1",
            "operator.resyncSeconds=3600",
            "operator.logLevel=debug",
            "operator.prometheusHosts={prometheus.monitoring:9090,thanos}",
            "operator.hubEndpoint=https://mirror.example/hub",
            "operator.client.qps=20",
            "operator.client.burst=40",
            "watchNamespace=shop",
        )
    )
    known = settings.read(given)
    assert (known.workers, known.max_probes, known.namespace) == (2, 10_000, "shop")
    assert (known.resync_seconds, known.log_level) == (3600, "debug")
    assert known.prometheus_hosts == {"prometheus.monitoring:9090", "thanos"}
    assert known.hub_endpoint == "https://mirror.example/hub"
    assert given["SPRINGTIDE_MAX_PROBES_PER_NAMESPACE"] == "1"
    assert (given["SPRINGTIDE_CLIENT_QPS"], given["SPRINGTIDE_CLIENT_BURST"]) == ("20", "40")


def test_a_shard_reads_its_selector_as_one_line(render):
    shard = "watchNamespaceSelector"
    given = environment(
        render(
            f"{shard}.matchLabels.example\\.com/shard=a",
            f"{shard}.matchLabels.stage=",
            f"{shard}.matchExpressions[0].key=team",
            f"{shard}.matchExpressions[0].operator=In",
            f"{shard}.matchExpressions[0].values={{search,shop}}",
            f"{shard}.matchExpressions[1].key=team",
            f"{shard}.matchExpressions[1].operator=NotIn",
            f"{shard}.matchExpressions[1].values={{shop}}",
            f"{shard}.matchExpressions[2].key=live",
            f"{shard}.matchExpressions[2].operator=Exists",
            f"{shard}.matchExpressions[3].key=example.com/own",
            f"{shard}.matchExpressions[3].operator=DoesNotExist",
        )
    )
    assert settings.read(given).namespace_selector == (
        "example.com/shard=a,stage=,team in (search,shop),team notin (shop),live,!example.com/own"
    )
    assert settings.read(environment(render())).namespace_selector == ""


def test_an_installation_may_use_no_hub(render):
    assert settings.read(environment(render())).hub_endpoint == "https://huggingface.co"
    assert settings.read(environment(render("operator.hubEndpoint="))).hub_endpoint == ""


def test_what_all_jobs_get_is_read_by_the_operator(render):
    term = "nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0]"
    match = f"{term}.preference.matchExpressions[0]"
    given = environment(
        render(
            "jobs.imagePullSecrets={registry,mirror}",
            "jobs.serviceAccountName=trainer",
            "jobs.labels.team=search",
            "jobs.labels.example\\.com/cost-centre=c7",
            f"jobs.affinity.{term}.weight=100",
            f"jobs.affinity.{match}.key=gpu",
            f"jobs.affinity.{match}.operator=Exists",
            "jobs.topologySpreadConstraints[0].maxSkew=1",
            "jobs.topologySpreadConstraints[0].topologyKey=zone",
            "jobs.topologySpreadConstraints[0].whenUnsatisfiable=ScheduleAnyway",
            "jobs.runtimeClassName=gvisor",
        )
    )
    pods = settings.read(given).job_pods
    assert pods.labels == {"team": "search", "example.com/cost-centre": "c7"}
    preference = {"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}
    assert pods.pod() == {
        "imagePullSecrets": [{"name": "registry"}, {"name": "mirror"}],
        "serviceAccountName": "trainer",
        "affinity": {
            "nodeAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 100, "preference": preference}
                ]
            }
        },
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
        ],
        "runtimeClassName": "gvisor",
    }


def test_jobs_without_values_get_nothing(render):
    assert json.loads(environment(render())["SPRINGTIDE_JOB_PODS"]) == {}


def test_further_variables_join_those_of_the_chart(render):
    documents = render(
        "extraEnv[0].name=HTTPS_PROXY",
        "extraEnv[0].value=http://proxy:3128",
        "extraEnv[1].name=NODE",
        "extraEnv[1].valueFrom.fieldRef.fieldPath=spec.nodeName",
    )
    (container,) = pod_of(documents)["containers"]
    assert {"name": "HTTPS_PROXY", "value": "http://proxy:3128"} in container["env"]
    node = {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}
    assert node in container["env"]


def test_a_variable_that_stands_twice_is_refused(refusal):
    assert "SPRINGTIDE_WORKERS" in refusal("extraEnv[0].name=SPRINGTIDE_WORKERS")
    assert "POD_ID" in refusal("extraEnv[0].name=POD_ID")
    assert "TWICE" in refusal("extraEnv[0].name=TWICE", "extraEnv[1].name=TWICE")


def test_labels_of_the_chart_win_over_those_of_values(render):
    name = "app\\.kubernetes\\.io/name"
    documents = render(f"podLabels.{name}=mine", "podLabels.team=search")
    deployment = one(documents, "Deployment")["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert labels["team"] == "search"
    assert deployment["selector"]["matchLabels"].items() <= labels.items()
    assert one(documents, "Service")["spec"]["selector"].items() <= labels.items()


def test_a_digest_wins_over_a_tag(render):
    digest = "sha256:" + "0" * 64
    documents = render(
        "image.repository=registry.example/o", "image.tag=v1", f"image.digest={digest}"
    )
    (container,) = pod_of(documents)["containers"]
    assert container["image"] == f"registry.example/o@{digest}"
