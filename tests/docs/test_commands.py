"""Every command of the documentation is run by a test, or is marked as an example with a reason."""

import json
import re
import shlex
import subprocess

import pytest
import yaml
from docs.pages import ROOT, SHELL, blocks, commands, script
from local_cluster.places import program

HERE = "tests/docs/test_commands.py"
ON_THE_API_SERVER = f"{HERE}::test_commands_run_against_the_api_server"
DIGEST = re.compile(r"sha256:(OPERATOR|TRAINER|\.\.\.)")

WITH_COMMANDS = [block for block in blocks() if block.language in SHELL and block.commands]
RUN_HERE = [block for block in WITH_COMMANDS if block.by == ON_THE_API_SERVER]
INSTALLS = [
    command
    for block in WITH_COMMANDS
    for command in block.commands
    if command.startswith(("helm install", "helm upgrade"))
]
YAML = [block for block in blocks() if block.language == "yaml"]

KSERVE_SECONDS = 30
"""`grace_period` of KServe's model server, in which it finishes requests."""

PLACES = (
    (
        (),
        {
            "model",
            "data",
            "trigger",
            "training",
            "evaluation",
            "gate",
            "rollout",
            "serving",
            "storage",
        },
    ),
    (("data",), {"source", "window", "holdout", "reserve", "volume"}),
    (("data", "source"), {"uri", "format", "partition", "columns"}),
    (("rollout",), {"targets", "deadline", "strategy", "pin"}),
)
"""Where in a spec a fragment with these keys belongs."""


@pytest.mark.parametrize("block", WITH_COMMANDS, ids=str)
def test_a_command_is_run_by_a_test_or_is_an_example_with_a_reason(block):
    assert block.by or block.example, "put a marker before it, see tests/docs/pages.py"
    if not block.by:
        return
    path, _, test = block.by.partition("::")
    text = (ROOT / path).read_text(encoding="utf-8")
    assert not test or re.search(rf"^(async )?def {test}\(", text, re.MULTILINE), block.by
    if path != HERE:
        taken = re.search(rf'(commands|script)\("{block.page}", "{block.name}"\)', text)
        missing = [command for command in block.commands if command not in text]
        assert taken or not missing, f"{path} neither takes this block nor has {missing}"


def test_every_target_of_make_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    known = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = {
        word
        for block in WITH_COMMANDS
        for command in block.commands
        if command.startswith("make ")
        for word in command.split()[1:2]
    }
    assert named - known == set()


@pytest.mark.apiserver
@pytest.mark.parametrize("block", RUN_HERE, ids=str)
def test_commands_run_against_the_api_server(shop, block, tmp_path):
    shop.run(block.text, tmp_path)
    if " delete " in block.text:
        shop.fill()


@pytest.mark.parametrize("command", INSTALLS)
def test_the_lines_that_install_render_the_chart(command):
    words = shlex.split(DIGEST.sub(f"sha256:{'a' * 64}", command))
    kept = [word for word in words[1:] if word not in {"--install", "--wait", "upgrade", "install"}]
    kept = [word for word in kept if not word.startswith(("--reset-", "--reuse-", "--timeout"))]
    rendered = subprocess.run(
        [program("helm"), "template", *kept],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert rendered.returncode == 0, rendered.stderr
    assert "kind: Deployment" in rendered.stdout


@pytest.mark.parametrize("block", YAML, ids=str)
def test_yaml_can_be_parsed(block):
    assert list(yaml.safe_load_all(block.text))


@pytest.mark.apiserver
def test_manifests_are_accepted_by_the_api_server(shop):
    ours = [block for block in YAML if "kind: IncrementalUpdate\n" in block.text]
    assert ours
    for block in ours:
        for manifest in yaml.safe_load_all(block.text):
            # Not the update that other tests create: its initial model is immutable.
            manifest["metadata"]["name"] = "manifest"
            shop.apply(json.dumps(manifest, default=_time), "--dry-run=server")


@pytest.mark.apiserver
def test_the_server_with_a_warm_up_sidecar_is_accepted_by_the_api_server(shop):
    (deployment,) = (block for block in YAML if "kind: Deployment\n" in block.text)
    (sidecar,) = (block for block in YAML if block.text.startswith("initContainers:"))
    manifest = yaml.safe_load(deployment.text)
    manifest["metadata"]["namespace"] = "shop"
    manifest["spec"]["template"]["spec"] |= yaml.safe_load(sidecar.text)
    shop.apply(json.dumps(manifest), "--dry-run=server")


@pytest.mark.apiserver
def test_fragments_of_a_spec_are_accepted_by_the_api_server(shop):
    (readme,) = (block for block in YAML if block.name == "update")
    placed = []
    for block in YAML:
        fragment = yaml.safe_load(block.text)
        place = next((path for path, keys in PLACES if {*fragment} <= keys), None)
        if place is not None:
            placed.append((place, fragment))
    assert {place for place, _ in placed} == {path for path, _ in PLACES}
    for place, fragment in placed:
        update = yaml.safe_load(readme.text)
        update["metadata"]["name"] = "fragment"
        inner = update["spec"]
        if "task" in fragment.get("model", {}):
            inner["model"].pop("labels")  # of the task that the fragment replaces
            if "source" in fragment.get("data", {}):
                inner["data"]["source"]["columns"] = {}
        for key in place:
            inner = inner[key]
        _merge(inner, fragment)
        text = json.dumps(update, default=_time).replace("sha256:...", f"sha256:{'a' * 64}")
        shop.apply(text, "--dry-run=server")


@pytest.mark.apiserver
def test_the_example_of_a_server_of_others_is_accepted(shop, tmp_path):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    text = script("docs/how-to/own-server.md", "kserve")
    printed = shop.run(DIGEST.sub(f"sha256:{'a' * 64}", text), tmp_path)
    assert "incrementalupdate.springtide.dev/classifier" in printed
    found = shop.run("kubectl -n shop get deployment/classifier -o json", tmp_path)
    pod = json.loads(found)["spec"]["template"]["spec"]
    (server,), (sidecar,) = pod["containers"], pod["initContainers"]
    assert sidecar["image"] == f"registry.example/team/springtide-trainer@sha256:{'a' * 64}"
    assert server["image"] == "registry.example/team/kserve-classifier:1"
    (model,) = (each["value"] for each in server["env"] if each["name"] == "MODEL_NAME")
    assert server["readinessProbe"]["httpGet"]["path"] == f"/v2/models/{model}/ready"
    uri = "/models/shop/classifier/artifacts"
    assert sidecar["args"] == [f"--model={model}", f"--artifacts={uri}"]
    waits = server["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > waits + KSERVE_SECONDS
    update = json.loads(shop.run("kubectl -n shop get iu/classifier -o json", tmp_path))
    (target,) = update["spec"]["rollout"]["targets"]
    assert (target["targetRef"]["name"], target["container"]) == ("classifier", server["name"])
    claims = [each["persistentVolumeClaim"] for each in pod["volumes"] if "emptyDir" not in each]
    assert claims == [
        {"claimName": update["spec"]["storage"]["volume"]["claimName"], "readOnly": True}
    ]


@pytest.mark.apiserver
def test_a_backup_is_restored_with_its_status(shop, tmp_path):
    page = "docs/how-to/backup.md"
    (backup,) = (b for b in WITH_COMMANDS if (b.page, b.name) == (page, "backup"))
    shop.run(backup.text, tmp_path)
    shop.run("kubectl -n shop delete modelgenerations --all", tmp_path)
    shop.run("\n".join(commands(page, "restore")), tmp_path)
    restored = shop.run(f"{commands(page, 'check-restore')[0]} --output yaml", tmp_path)
    (generation,) = yaml.safe_load(restored)["items"]
    assert generation["spec"]["number"] == 2
    assert generation["status"]["outcome"] == "Live"


@pytest.mark.apiserver
def test_a_generation_is_approved_or_rejected(shop, tmp_path):
    page = "docs/how-to/approve.md"
    for block, decision in (("approve", "Approved"), ("reject", "Rejected")):
        shop.add_accepted("recommender-g3")
        shop.run(script(page, "evidence"), tmp_path)
        shop.run(script(page, block), tmp_path)
        printed = shop.run("kubectl -n shop get mg/recommender-g3 -o json", tmp_path)
        assert json.loads(printed)["spec"]["approval"]["decision"] == decision
        shop.run("kubectl -n shop delete mg/recommender-g3", tmp_path)


def _time(value):
    return f"{value:%Y-%m-%dT%H:%M:%SZ}"


def _merge(into, fragment):
    for key, value in fragment.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value
