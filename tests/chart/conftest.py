"""Renders the chart as `helm template` does, and installs it into an API server."""

import functools
import itertools
import subprocess
from collections.abc import Callable, Iterator

import httpx
import pytest
from chart.people import Person, allow, connect, eventually
from chart.strict_yaml import load_all
from local_cluster.apiserver import ApiServer
from local_cluster.places import REPOSITORY, program

CHART = REPOSITORY / "charts" / "springtide"
Render = Callable[..., list[dict]]

_numbers = itertools.count(1)


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program("helm"), *arguments], capture_output=True, text=True, check=False, timeout=120
    )


def flags(settings: tuple[str, ...]) -> list[str]:
    return [flag for setting in settings for flag in ("--set", setting)]


@pytest.fixture(scope="session")
def render() -> Render:
    """Render the chart; documents of the same values are made once, and no test changes them."""

    @functools.cache
    def rendered(*settings: str, release: str = "springtide", namespace: str = "tides"):
        chart = ("template", release, str(CHART), "--namespace", namespace)
        done = helm(*chart, *flags(settings))
        assert done.returncode == 0, done.stderr
        return load_all(done.stdout)

    return rendered


@pytest.fixture(scope="session")
def refusal() -> Callable[..., str]:
    def refused(*settings: str) -> str:
        done = helm("template", "springtide", str(CHART), *flags(settings))
        assert done.returncode != 0, f"{settings} were accepted"
        return done.stderr

    return refused


@pytest.fixture(scope="session")
def lint() -> subprocess.CompletedProcess[str]:
    return helm("lint", str(CHART), "--strict")


@pytest.fixture(scope="session")
def installed() -> Iterator[ApiServer]:
    """An API server of our own with two releases: policies of one would concern other tests.

    One release in tides handles every namespace; another one in shop-system handles shop alone, and
    denies images without a digest or from other registries.
    """
    server = ApiServer()
    try:
        server.open()
        server.kubectl("create", "namespace", "shop")
        server.kubectl("create", "namespace", "search")
        install(server, "tides", "trainer.repository=registry.example/trainer")
        install(
            server,
            "shop-system",
            "crds.install=false",
            "watchNamespace=shop",
            "networkPolicy.enabled=true",
            "podDisruptionBudget.enabled=true",
            "policy.imageDigests=Deny",
            "policy.imageRegistries={registry.example/models,mirror.example:5000}",
        )
        server.wait_for_crds()
        _until_policies_hold(server)
        yield server
    finally:
        server.close()


def install(server: ApiServer, namespace: str, *settings: str) -> None:
    """Install a release named springtide."""
    done = helm(
        *("install", "springtide", str(CHART), f"--kubeconfig={server.kubeconfig}"),
        *("--namespace", namespace, "--create-namespace"),
        *flags(settings),
    )
    assert done.returncode == 0, done.stderr


MARKER = """
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: marker}
spec:
  matchConstraints:
    resourceRules:
      - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}
  validations:
    - expression: object.metadata.name != 'marker'
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: marker}
spec: {policyName: marker, validationActions: [Deny]}
"""


def _until_policies_hold(server: ApiServer) -> None:
    """Wait for the policies created so far: one that is created after them holds no earlier."""
    server.kubectl("apply", "-f", "-", input=MARKER)
    marker = {"metadata": {"name": "marker"}}
    path = "/api/v1/namespaces/default/configmaps?dryRun=All"
    with connect(server) as http:
        eventually(lambda: http.post(path, json=marker).status_code == 422)


@pytest.fixture(scope="session")
def http(installed) -> Iterator[httpx.Client]:
    """A connection to the API server with both releases, as the administrator."""
    with connect(installed) as client:
        yield client


@pytest.fixture(scope="session")
def as_user(http) -> Callable[[str], Person]:
    """A user by name; "" is the administrator."""
    return lambda name: Person(http, name)


@pytest.fixture(scope="session")
def user(http) -> Callable[..., Person]:
    """Make a user with these rights in a namespace."""

    def made(namespace: str, *rules: dict) -> Person:
        name = f"user-{next(_numbers)}"
        allow(http, namespace, name, *rules)
        return Person(http, name)

    return made


@pytest.fixture
def store(as_user) -> Iterator[Callable[[str, dict], dict]]:
    """Create an object as the administrator; it lasts as long as the test."""
    administrator, stored = as_user(""), []

    def create(plural: str, body: dict) -> dict:
        answer = administrator.create(plural, body)
        assert answer.status == 201, answer
        stored.append(answer.body)
        return answer.body

    yield create
    for each in stored:
        administrator.patch(each, {"metadata": {"finalizers": None}})
        administrator.delete(each)
