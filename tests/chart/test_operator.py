"""The operator's Deployment and what it is told."""


def one(documents: list[dict], kind: str) -> dict:
    (found,) = [document for document in documents if document["kind"] == kind]
    return found


def test_helm_lint_has_nothing_to_say(lint):
    assert lint.returncode == 0, lint.stdout + lint.stderr


def test_the_pod_satisfies_pod_security_restricted(render):
    pod = one(render(), "Deployment")["spec"]["template"]["spec"]
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
    (container,) = one(documents, "Deployment")["spec"]["template"]["spec"]["containers"]
    told = {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
    assert told == {
        "SPRINGTIDE_NAMESPACE": "",
        "SPRINGTIDE_TRAINER_IMAGE": "registry.example/trainer:v7",
        "SPRINGTIDE_PROGRESS_URL": f"http://{service['metadata']['name']}.tides.svc:8080",
        "SPRINGTIDE_LEASE_NAMESPACE": "tides",
    }
    named = {port["name"] for port in container["ports"]}
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= named


def test_a_digest_wins_over_a_tag(render):
    digest = "sha256:" + "0" * 64
    documents = render(
        "image.repository=registry.example/o", "image.tag=v1", f"image.digest={digest}"
    )
    (container,) = one(documents, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"registry.example/o@{digest}"


def test_an_unknown_value_is_refused(refusal):
    assert "replicas" in refusal("replicas=2")
    assert "repo" in refusal("image.repo=x")


def test_a_value_of_the_wrong_kind_is_refused(refusal):
    assert "watchNamespace" in refusal("watchNamespace=Not_A_Name")
    assert "digest" in refusal("image.digest=md5:1")
