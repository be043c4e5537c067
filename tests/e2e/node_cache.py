"""The cache of models on each node of `examples/node-cache`, for a small example and its server."""

import json

import yaml
from demo.cluster import EXAMPLES
from demo.example import UPDATE
from e2e.small_example import Raw, SmallExample

CLAIM = "model-cache"


def with_cache(server: Raw) -> None:
    """Change the spec of a Deployment in place as the component of the example does."""
    component = yaml.safe_load((EXAMPLES / "node-cache" / "kustomization.yaml").read_text())
    (patch,) = component["patches"]
    added = yaml.safe_load(patch["patch"])["spec"]["template"]["spec"]
    pod = server["template"]["spec"]
    (container,), (change,) = pod["containers"], added["containers"]
    container["env"] += change["env"]
    container["volumeMounts"] += change["volumeMounts"]
    pod["volumes"] += added["volumes"]


def make_cache(example: SmallExample) -> None:
    """Create the volume with its folder on the node, and its claim."""
    folder = example.folder(CLAIM)
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    text = (EXAMPLES / "node-cache" / "volume.yaml").read_text()
    volume, claim = yaml.safe_load_all(text)
    name = f"{example.namespace}-{CLAIM}"
    volume["metadata"]["name"] = claim["spec"]["volumeName"] = name
    volume["spec"]["hostPath"]["path"] = str(folder)
    volume["spec"]["claimRef"]["namespace"] = example.namespace
    claim["metadata"]["namespace"] = example.namespace
    example.kubectl("delete", "persistentvolume", name, "--ignore-not-found")  # an earlier run's
    example.kubectl.apply([volume, claim])


def sources(example: SmallExample, generation: int) -> set[str]:
    """Return from where the target's pods of a generation loaded it."""
    selector = f"--selector=app={UPDATE},springtide.dev/role=live"
    lines = example.show("logs", selector, "--container=server", "--tail=-1").splitlines()
    ready = (json.loads(line) for line in lines if '"loaded_from"' in line)
    return {each["loaded_from"] for each in ready if each["generation"] == str(generation)}
