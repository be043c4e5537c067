"""The commands that `make images REGISTRY=...` prints, and `examples/` as they prepare it."""

import subprocess
from pathlib import Path

import pytest
from chart.conftest import CHART, helm
from chart.strict_yaml import load_all
from docs.pages import script
from local_cluster import publishing
from local_cluster.apiserver import ApiServer
from local_cluster.places import REPOSITORY, program
from local_cluster.publishing import Published

OPERATOR = Published("registry.example:5000/team/springtide-operator", "sha256:" + "a1" * 32)
TRAINER = Published("registry.example:5000/team/springtide-trainer", "sha256:" + "b2" * 32)
STORAGE = "app.kubernetes.io/component=storage"


@pytest.fixture(scope="module")
def my_shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the second printed command makes beside `examples/`."""
    checkout = tmp_path_factory.mktemp("checkout")
    (checkout / "examples").mkdir()
    for file in (REPOSITORY / "examples").glob("*.yaml"):
        (checkout / "examples" / file.name).write_text(file.read_text())
    _, example = publishing.commands(OPERATOR, TRAINER).split("\n\n")
    subprocess.run(["sh", "-euc", example], cwd=checkout, check=True)
    return checkout / "my-shop"


def kustomized(folder: Path) -> list[dict]:
    argv = [program("kubectl"), "kustomize", str(folder)]
    return load_all(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)


def containers(objects: list[dict]) -> list[dict]:
    pods = [one["spec"].get("template", one)["spec"] for one in objects if "spec" in one]
    return [container for pod in pods for container in pod.get("containers", [])]


def test_the_printed_install_command_sets_both_images_by_digest() -> None:
    command = publishing.install_command(OPERATOR, TRAINER).replace("\\\n", "").split()
    assert command[:5] == ["helm", "upgrade", "--install", "springtide", "charts/springtide"]
    settings = [word for word in command if "=" in word]

    done = helm("template", "springtide", str(CHART), *(f"--set={each}" for each in settings))

    assert done.returncode == 0, done.stderr
    (deployment,) = [one for one in load_all(done.stdout) if one["kind"] == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert container["image"] == OPERATOR.reference
    assert environment["SPRINGTIDE_TRAINER_IMAGE"] == TRAINER.reference


def test_the_documentation_shows_the_printed_commands() -> None:
    registry = "registry.example/team"
    operator = Published(f"{registry}/springtide-operator", "sha256:OPERATOR")
    trainer = Published(f"{registry}/springtide-trainer", "sha256:TRAINER")
    page = "docs/how-to/install.md"

    shown = f"{script(page, 'install').strip()}\n\n{script(page, 'kustomization').strip()}\n"

    assert publishing.commands(operator, trainer) == shown


def test_the_printed_kustomization_names_the_pushed_image_in_every_container(my_shop: Path) -> None:
    images = {container["image"] for container in containers(kustomized(my_shop))}

    assert images == {TRAINER.reference}


def test_the_examples_name_no_storage_class_and_no_folder_of_a_node(my_shop: Path) -> None:
    objects = kustomized(my_shop)
    claims = [one for one in objects if one["kind"] == "PersistentVolumeClaim"]

    assert [one["spec"].keys() & {"storageClassName", "volumeName"} for one in claims] == [
        set()
    ] * 2
    assert "hostPath" not in str(objects)


def test_claims_take_a_class_and_an_access_mode_from_a_patch(my_shop: Path) -> None:
    patched = my_shop.with_name("patched")
    patched.mkdir()
    text = (my_shop / "kustomization.yaml").read_text()
    (patched / "kustomization.yaml").write_text(
        f"""{text}patches:
  - target: {{kind: PersistentVolumeClaim}}
    patch: |-
      - {{op: replace, path: /spec/accessModes/0, value: ReadWriteMany}}
      - {{op: add, path: /spec/storageClassName, value: nfs}}
"""
    )

    specs = [o["spec"] for o in kustomized(patched) if o["kind"] == "PersistentVolumeClaim"]

    assert [one["accessModes"] for one in specs] == [["ReadWriteMany"]] * 2
    assert [one["storageClassName"] for one in specs] == ["nfs"] * 2


@pytest.mark.apiserver
def test_storage_and_loader_are_applied_before_the_rest(kinds: ApiServer, my_shop: Path) -> None:
    apply = ("apply", f"--kustomize={my_shop}")

    first = set(kinds.kubectl(*apply, f"--selector={STORAGE}", "--output=name").split())
    assert first == {
        "namespace/shop",
        "persistentvolumeclaim/models",
        "persistentvolumeclaim/data",
        "pod/loader",
    }

    rest = set(kinds.kubectl(*apply, "--output=name").split()) - first
    assert rest == {
        "service/recommender",
        "deployment.apps/recommender",
        "incrementalupdate.springtide.dev/recommender",
    }


@pytest.mark.apiserver
def test_the_load_generator_is_accepted_by_pod_security(kinds: ApiServer) -> None:
    folder = REPOSITORY / "examples" / "load-generator"
    namespace = (REPOSITORY / "examples" / "10-namespace.yaml").read_text()
    kinds.kubectl("apply", "--filename=-", input=namespace)

    kinds.kubectl("apply", f"--kustomize={folder}", "--dry-run=server")


def test_a_reference_without_a_digest_is_refused() -> None:
    with pytest.raises(ValueError, match="a tag can move"):
        publishing.parse("registry.example/springtide-operator:0.1.0")
