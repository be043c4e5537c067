"""The example of a cache on each node, as a kustomization of an owner has it."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
import yaml
from local_cluster.control_plane import KubectlError
from local_cluster.places import REPOSITORY, program

from springtide_server.settings import read_settings

OVERLAY = {
    "apiVersion": "kustomize.config.k8s.io/v1beta1",
    "kind": "Kustomization",
    "resources": ["../examples"],
    "components": ["../examples/node-cache"],
}


@pytest.fixture
def objects(tmp_path):
    shutil.copytree(REPOSITORY / "examples", tmp_path / "examples")
    mine = tmp_path / "my-shop"
    mine.mkdir()
    (mine / "kustomization.yaml").write_text(json.dumps(OVERLAY))
    argv = [program("kubectl"), "kustomize", str(mine)]
    made = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    return {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(made)}


def test_the_servers_get_the_folder_of_their_node(objects):
    pod = objects["Deployment", "recommender"]["spec"]["template"]["spec"]
    (server,) = pod["containers"]
    env = {each["name"]: each["value"] for each in server["env"] if "CACHE" in each["name"]}
    (mount,) = [each for each in server["volumeMounts"] if each["name"] == "model-cache"]
    (claim,) = [each for each in pod["volumes"] if each["name"] == "model-cache"]
    volume = objects["PersistentVolume", "shop-model-cache"]["spec"]

    assert read_settings(env).model_cache == mount["mountPath"]
    assert read_settings(env).model_cache_bytes < 10 * 2**30
    assert not mount.get("readOnly")
    assert ("PersistentVolumeClaim", claim["persistentVolumeClaim"]["claimName"]) in objects
    assert "nodeAffinity" not in volume
    assert "models" in {each["name"] for each in server["volumeMounts"]}, "the fallback"


@pytest.mark.apiserver
def test_pods_with_it_satisfy_pod_security_restricted_and_with_a_host_path_they_do_not(
    kinds, objects
):
    namespace = objects["Namespace", "shop"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    namespace["metadata"]["name"] = "cached"

    def apply(body, *more):
        return kinds.kubectl("apply", "--filename=-", *more, input=json.dumps(body))

    apply(namespace)
    for kind, name in (
        ("PersistentVolume", "shop-model-cache"),
        ("PersistentVolumeClaim", "model-cache"),
        ("Deployment", "recommender"),
    ):
        body = objects[kind, name]
        if "namespace" in body["metadata"]:
            body["metadata"]["namespace"] = "cached"
        apply(body, "--dry-run=server")
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "one", "namespace": "cached"},
        "spec": objects["Deployment", "recommender"]["spec"]["template"]["spec"],
    }
    assert "created" in apply(pod, "--dry-run=server")
    (volume,) = [each for each in pod["spec"]["volumes"] if each["name"] == "model-cache"]
    del volume["persistentVolumeClaim"]
    volume["hostPath"] = {"path": "/var/lib/springtide/shop"}
    with pytest.raises(KubectlError, match="violates PodSecurity"):
        apply(pod, "--dry-run=server")
