"""What an installation sets: environment variables, read once at start."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import ValidationError

from springtide_operator.manifests.job_pods import PLAIN, JobPods
from springtide_operator.ports.notifier import NOWHERE, Sink

if TYPE_CHECKING:
    from collections.abc import Mapping

HUB = "https://huggingface.co"
REQUIREMENT = (
    r"(![-a-zA-Z0-9_./]+|[-a-zA-Z0-9_./]+((=|==|!=)[-a-zA-Z0-9_.]*"
    r"| (in|notin) \([-a-zA-Z0-9_.]+(,[-a-zA-Z0-9_.]+)*\))?)"
)
"""One part of a label selector, as the chart writes it."""

LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True)
class Settings:
    """The installation, as the chart sets it. Durations are seconds."""

    trainer_image: str
    progress_url: str
    namespace: str = ""
    """The one namespace to watch; empty: all."""
    namespace_selector: str = ""
    """Label selector of the namespaces to serve; empty: all that are watched."""
    lease_namespace: str = "default"
    lease_name: str = "springtide-operator"
    identity: str = ""
    """Our identity in the Lease: the pod's name."""
    lease_seconds: float = 30.0
    resync_seconds: float = 600.0
    workers: int = 8
    max_probes: int = 10
    """Probes that run or start at one time in the whole cluster."""
    max_probes_per_namespace: int = 5
    """Probes at one time in a namespace, those whose pods cannot run included."""
    client_qps: float = 200.0
    """Average requests per second to the API server; the Lease and watches not counted."""
    client_burst: int = 400
    """Requests that may be sent at once after a pause."""
    progress_port: int = 8080
    health_port: int = 8081
    metrics_port: int = 9090
    log_level: str = "info"
    prometheus_hosts: frozenset[str] = frozenset()
    """Hosts that rollout.analysis may query, each as host:port, or as host for the default port."""
    hub_endpoint: str = HUB
    """The Hugging Face hub, or a mirror, that initial models may come from; empty: none."""
    job_pods: JobPods = PLAIN
    """What the installation adds to the pods of Jobs."""
    sink: Sink = NOWHERE
    """Where notifications are sent."""


def read(environment: Mapping[str, str]) -> Settings:
    """Read the settings.

    Raises:
        ValueError: a variable is missing or has no value that it may have; the message names it.
    """
    return Settings(
        trainer_image=_required(environment, "SPRINGTIDE_TRAINER_IMAGE"),
        progress_url=_required(environment, "SPRINGTIDE_PROGRESS_URL"),
        namespace=environment.get("SPRINGTIDE_NAMESPACE", ""),
        namespace_selector=_selector(environment),
        lease_namespace=environment.get("SPRINGTIDE_LEASE_NAMESPACE") or "default",
        lease_name=environment.get("SPRINGTIDE_LEASE_NAME") or Settings.lease_name,
        identity=environment.get("SPRINGTIDE_IDENTITY") or socket.gethostname(),
        lease_seconds=_number(environment, "SPRINGTIDE_LEASE_SECONDS", 30, lowest=15),
        resync_seconds=_number(environment, "SPRINGTIDE_RESYNC_SECONDS", 600, lowest=1),
        workers=int(_number(environment, "SPRINGTIDE_WORKERS", 8, lowest=1)),
        max_probes=int(_number(environment, "SPRINGTIDE_MAX_PROBES", 10, lowest=1)),
        max_probes_per_namespace=int(
            _number(environment, "SPRINGTIDE_MAX_PROBES_PER_NAMESPACE", 5, lowest=1)
        ),
        client_qps=_number(environment, "SPRINGTIDE_CLIENT_QPS", 200, lowest=1),
        client_burst=int(_number(environment, "SPRINGTIDE_CLIENT_BURST", 400, lowest=1)),
        progress_port=int(_number(environment, "SPRINGTIDE_PROGRESS_PORT", 8080, lowest=0)),
        health_port=int(_number(environment, "SPRINGTIDE_HEALTH_PORT", 8081, lowest=0)),
        metrics_port=int(_number(environment, "SPRINGTIDE_METRICS_PORT", 9090, lowest=0)),
        log_level=_level(environment),
        prometheus_hosts=_hosts(environment),
        hub_endpoint=_hub(environment),
        job_pods=_job_pods(environment),
        sink=_sink(environment),
    )


def _required(environment: Mapping[str, str], name: str) -> str:
    if value := environment.get(name):
        return value
    raise ValueError(f"{name} is not set; the chart sets it, without the chart set it yourself")


def _selector(environment: Mapping[str, str]) -> str:
    """Check the form of a label selector; the API server checks the rest."""
    name = "SPRINGTIDE_NAMESPACE_SELECTOR"
    text = environment.get(name, "").strip()
    if text and environment.get("SPRINGTIDE_NAMESPACE"):
        raise ValueError(f"{name} and SPRINGTIDE_NAMESPACE are both set; set one of them")
    if text and re.fullmatch(rf"{REQUIREMENT}(,{REQUIREMENT})*", text) is None:
        raise ValueError(f"{name} is {text!r}; write it like team=search,stage in (live,test)")
    return text


def _hosts(environment: Mapping[str, str]) -> frozenset[str]:
    name = "SPRINGTIDE_PROMETHEUS_HOSTS"
    hosts = [each.strip() for each in environment.get(name, "").split(",") if each.strip()]
    for host in hosts:
        if re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?(:[0-9]{1,5})?", host) is None:
            raise ValueError(f"{name} has {host!r}; write host:port, separated by commas")
    return frozenset(hosts)


def _hub(environment: Mapping[str, str]) -> str:
    name = "SPRINGTIDE_HUB_ENDPOINT"
    url = _url(name, environment.get(name, HUB), "its token is HF_TOKEN of the Secret of an update")
    if any(mark in url for mark in "?#"):
        raise ValueError(f"{name} has a query; set it to the URL that paths are added to")
    return url.rstrip("/")


def _job_pods(environment: Mapping[str, str]) -> JobPods:
    name = "SPRINGTIDE_JOB_PODS"
    try:
        return JobPods.model_validate_json(environment.get(name) or "{}")
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_context=False)[0]
        field = ".".join(str(part) for part in wrong["loc"])
        raise ValueError(f"{name}: {field}{': ' if field else ''}{wrong['msg']}") from None


def _sink(environment: Mapping[str, str]) -> Sink:
    name = "SPRINGTIDE_NOTIFICATIONS"
    return Sink(
        url=_url(
            f"{name}_URL",
            environment.get(f"{name}_URL", ""),
            "use the file authorization for credentials",
        ),
        timeout_seconds=_number(environment, f"{name}_TIMEOUT_SECONDS", 10, lowest=1),
        repeat_seconds=_number(environment, f"{name}_REPEAT_SECONDS", 3600, lowest=0),
        directory=environment.get(f"{name}_DIRECTORY", ""),
    )


def _url(name: str, text: str, instead: str) -> str:
    """Check a URL; messages do not repeat it, since it may hold a secret.

    Args:
        name: The variable.
        text: The URL; empty: none.
        instead: Where credentials belong.
    """
    try:
        parts = urlsplit(text)
        known = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        known = False
    if text and not (known and text.isprintable() and " " not in text):
        raise ValueError(f"{name} is not a URL; set it to http:// or https:// with a host")
    if "@" in parts.netloc:
        raise ValueError(f"{name} holds a user; {instead}")
    return text


def _level(environment: Mapping[str, str]) -> str:
    level = (environment.get("SPRINGTIDE_LOG_LEVEL") or "info").lower()
    if level not in LOG_LEVELS:
        raise ValueError(f"SPRINGTIDE_LOG_LEVEL is {level!r}; use one of {', '.join(LOG_LEVELS)}")
    return level


def _number(environment: Mapping[str, str], name: str, default: float, *, lowest: float) -> float:
    text = environment.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{name} is {text!r}; set it to a number") from None
    if not value >= lowest:
        raise ValueError(f"{name} is {text}; set it to {lowest:g} or more")
    return value
