"""What changes in the example for a canary: its claims, a route, and the rollout of its update."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from demo.traffic.setting import Gateway, Traffic

NAME = "recommender"
"""Of Deployment, container's Service, route and update."""
API = "gateway.networking.k8s.io/v1"
METRIC = "slower-than-live"
SLOWER = "2"
"""How many times as long as the live generation's a canary's mean answer may take. Both are
measured at the same time: what slows the machine slows both."""
CLAIMS = """
patches:
  - target: {kind: PersistentVolumeClaim}
    patch: |-
      - {op: replace, path: /spec/accessModes/0, value: ReadWriteMany}
"""
"""Pods of two Deployments mount the claim of the models: the target's and the canary's."""
MEAN = (
    "sum(rate(springtide_server_request_seconds_sum{{{labels}}}[{window}]))"
    " / sum(rate(springtide_server_request_seconds_count{{{labels}}}[{window}]))"
)
OF_CANARY = 'namespace="{{namespace}}", generation="{{generation}}", role="{{role}}", outcome="ok"'
OF_LIVE = 'namespace="{{namespace}}", role="live", outcome="ok"'


def claims(storage_class: str) -> str:
    """Return what is added to the kustomization for claims that pods of several nodes mount."""
    if not storage_class:
        return CLAIMS
    return CLAIMS + f"      - {{op: add, path: /spec/storageClassName, value: {storage_class}}}\n"


def routing(namespace: str, gateway: Gateway | None) -> list[dict[str, Any]]:
    """Return a Gateway and the HTTPRoute that a canary divides; nothing without a gateway."""
    if gateway is None:
        return []
    listener = {"name": "web", "protocol": "HTTP", "port": gateway.port}
    weights = ((NAME, 100), (f"{NAME}-canary", 0))
    backends = [{"name": name, "port": 80, "weight": weight} for name, weight in weights]
    objects = (
        ("Gateway", "web", {"gatewayClassName": gateway.class_name, "listeners": [listener]}),
        (
            "HTTPRoute",
            NAME,
            {"parentRefs": [{"name": "web"}], "rules": [{"backendRefs": backends}]},
        ),
    )
    return [
        {
            "apiVersion": API,
            "kind": kind,
            "metadata": {"name": name, "namespace": namespace},
            "spec": spec,
        }
        for kind, name, spec in objects
    ]


def rollout(traffic: Traffic) -> dict[str, Any]:
    """Return the change of the update's spec: a canary by steps, and the metric that watches it."""
    target: dict[str, Any] = {"targetRef": {"name": NAME}, "container": "server"}
    if traffic.gateway:
        target |= {"service": NAME, "httpRoute": NAME}
    canary = {
        "steps": [{"weight": weight, "duration": lasts} for weight, lasts in traffic.steps],
        "traffic": {"type": "Gateway" if traffic.gateway else "Replicas"},
    }
    analysis = {
        "interval": traffic.interval,
        "failureLimit": 3,
        "prometheus": {"address": traffic.prometheus},
        "metrics": [{"name": METRIC, "value": {"max": SLOWER, "query": query(traffic.window)}}],
    }
    return {
        "rollout": {
            "targets": [target],
            "strategy": {"type": "Canary", "canary": canary},
            "analysis": analysis,
        }
    }


def query(window: str) -> str:
    """Return the PromQL of the canary's mean latency in multiples of the live generation's."""
    canary, live = (MEAN.format(labels=one, window=window) for one in (OF_CANARY, OF_LIVE))
    return f"{canary} / ({live})"
