"""Users of a real API server: each request is sent as one of them, and the answer is returned."""

import json
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml
from local_cluster.apiserver import ApiServer

RBAC = "/apis/rbac.authorization.k8s.io/v1"
GROUP = "/apis/springtide.dev/v1alpha1"
MINIMAL = Path(__file__).parents[1] / "api" / "minimal.yaml"
DIGEST = "sha256:" + 64 * "0"
OPERATOR = "system:serviceaccount:tides:springtide"
GARBAGE_COLLECTOR = "system:serviceaccount:kube-system:generic-garbage-collector"
TYPES = {
    "merge": "application/merge-patch+json",
    "apply": "application/apply-patch+yaml",
}


@dataclass(frozen=True)
class Answer:
    """What the API server answered."""

    status: int
    body: dict[str, Any]
    warnings: tuple[str, ...]

    @property
    def message(self) -> str:
        """Why it was refused."""
        return str(self.body.get("message", ""))


class Person:
    """A user; the administrator impersonates it, so that no credentials have to be made."""

    def __init__(self, http: httpx.Client, name: str) -> None:
        self.name = name
        self._http = http
        self._headers = {"Impersonate-User": name} if name else {}

    def create(self, plural: str, body: dict[str, Any], **options: str) -> Answer:
        """Create an object in the namespace that it names."""
        path = f"{GROUP}/namespaces/{body['metadata']['namespace']}/{plural}"
        return self._send("POST", path, body, options)

    def patch(
        self, stored: dict[str, Any], change: dict[str, Any], part: str = "", **options: str
    ) -> Answer:
        """Change a stored object, or its status, by a merge patch."""
        return self._send("PATCH", f"{_path(stored)}{part}", change, options, TYPES["merge"])

    def apply(self, body: dict[str, Any]) -> Answer:
        """Apply an update as `kubectl apply --server-side` does."""
        options = {"fieldManager": "person", "force": "true"}
        return self._send("PATCH", _path(body), body, options, TYPES["apply"])

    def read(self, stored: dict[str, Any]) -> Answer:
        """Read a stored object again."""
        return self._send("GET", _path(stored), None, {})

    def delete(self, stored: dict[str, Any], **options: str) -> Answer:
        """Delete a stored object."""
        return self._send("DELETE", _path(stored), None, options)

    def _send(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        options: dict[str, str],
        kind: str = "application/json",
    ) -> Answer:
        answer = self._http.request(
            method,
            path,
            params=options,
            headers={**self._headers, "Content-Type": kind},
            content=None if body is None else json.dumps(body),
        )
        warnings = tuple(answer.headers.get_list("Warning"))
        return Answer(answer.status_code, answer.json(), warnings)


def connect(server: ApiServer) -> httpx.Client:
    """Connect as the administrator."""
    pki = server.plane.pki
    context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
    return httpx.Client(base_url=server.url, verify=context, trust_env=False, timeout=30)


def grant(group: str, resource: str, *verbs: str, names: tuple[str, ...] = ()) -> dict[str, Any]:
    """One rule of a Role; without verbs: create."""
    rule = {"apiGroups": [group], "resources": [resource], "verbs": list(verbs or ("create",))}
    return rule | ({"resourceNames": list(names)} if names else {})


WRITE = grant("springtide.dev", "incrementalupdates", "get", "create", "update", "patch", "delete")
JOBS = grant("batch", "jobs")
DEPLOYMENTS = grant("apps", "deployments", "patch")
AUTHOR = (WRITE, JOBS, DEPLOYMENTS)


def allow(http: httpx.Client, namespace: str, name: str, *rules: dict[str, Any]) -> None:
    """Give a user these rights in a namespace, and no others; return once they hold."""
    role = {"metadata": {"name": name}, "rules": list(rules)}
    binding = {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}],
    }
    for plural, body in (("roles", role), ("rolebindings", binding)):
        answer = http.post(f"{RBAC}/namespaces/{namespace}/{plural}", json=body)
        assert answer.status_code == 201, answer.text
    eventually(lambda: _may(http, namespace, name, rules[0]))


def withdraw(http: httpx.Client, namespace: str, name: str, rule: dict[str, Any]) -> None:
    """Take one right from a user, who keeps the others; return once it is gone."""
    path = f"{RBAC}/namespaces/{namespace}/roles/{name}"
    role = http.get(path).json()
    kept = [each for each in role["rules"] if each["resources"] != rule["resources"]]
    assert http.put(path, json=role | {"rules": kept}).status_code == 200
    eventually(lambda: not _may(http, namespace, name, rule))


def eventually(holds: Callable[[], bool]) -> None:
    """Wait until it holds; the API server learns of rights and policies by a watch."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _may(http: httpx.Client, namespace: str, name: str, rule: dict[str, Any]) -> bool:
    asked = {
        "namespace": namespace,
        "group": rule["apiGroups"][0],
        "resource": rule["resources"][0],
        "verb": rule["verbs"][0],
        "name": rule.get("resourceNames", [""])[0],
    }
    review = {"spec": {"user": name, "resourceAttributes": asked}}
    answer = http.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", json=review)
    return bool(answer.json()["status"]["allowed"])


def an_update(namespace: str, *targets: str, image: str = "") -> dict[str, Any]:
    """An update whose targets are the Deployments of these names."""
    body = yaml.safe_load(MINIMAL.read_text())
    body["metadata"] = {"name": "ranker", "namespace": namespace}
    body["spec"]["rollout"]["targets"] = [
        {"targetRef": {"name": name}, "container": "server"} for name in targets or ("ranker",)
    ]
    if image:
        body["spec"]["training"] = {"image": image}
    return body


def a_generation(namespace: str, origin: str) -> dict[str, Any]:
    """A generation of that update: the imported one, or one that was trained from it."""
    spec = an_update(namespace)["spec"]
    blocks = {block: spec[block] for block in ("model", "data", "gate", "storage")}
    made = {
        "updateRef": {"name": "ranker"},
        "number": 0,
        "origin": origin,
        "recipe": {**blocks, "training": {}, "evaluation": {}},
        "recipeHash": DIGEST,
    }
    if origin == "Imported":
        made |= {"initial": spec["model"]["initial"]}
    else:
        made |= {
            "number": 1,
            "parent": {"name": "ranker-g0", "digest": DIGEST},
            "data": {"manifest": "file:///models/data", "digest": DIGEST},
        }
    return {
        "apiVersion": "springtide.dev/v1alpha1",
        "kind": "ModelGeneration",
        "metadata": {"name": f"ranker-g{made['number']}", "namespace": namespace},
        "spec": made,
    }


def _path(stored: dict[str, Any]) -> str:
    plural = {"IncrementalUpdate": "incrementalupdates", "ModelGeneration": "modelgenerations"}
    metadata = stored["metadata"]
    folder = f"{GROUP}/namespaces/{metadata['namespace']}/{plural[stored['kind']]}"
    return f"{folder}/{metadata['name']}"
