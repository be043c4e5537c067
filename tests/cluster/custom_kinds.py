"""Kinds of other projects on an API server: as much of their CRD as the operator relies on."""

import json
from typing import Any

from springtide_operator.cluster.api.kinds import Kind

ANY: dict[str, Any] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def fields(**properties: Any) -> dict[str, Any]:
    """The schema of an object with these fields and no others."""
    return {"type": "object", "properties": properties}


def crd(kind: Kind) -> str:
    """The name of a kind's CRD."""
    return f"{kind.plural}.{kind.group}"


def install(apiserver, kind: Kind, spec: dict[str, Any]) -> None:
    """Install a kind whose objects have this schema of `spec` and any status."""
    names = {"plural": kind.plural, "singular": kind.name.lower(), "kind": kind.name}
    schema = {"openAPIV3Schema": fields(spec=spec, status=ANY)}
    version = {"name": kind.version, "served": True, "storage": True, "schema": schema}
    body = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": crd(kind)},
        "spec": {
            "group": kind.group,
            "scope": "Namespaced",
            "names": names,
            "versions": [{**version, "subresources": {"status": {}}}],
        },
    }
    apiserver.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(body))
    apiserver.wait_for_crds()
