"""A canary through a gateway, with clients that see no failure: its weights, its end, its abort.

The server is not ours but that of `examples/kserve`.
"""

import http.client
import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest
import yaml
from demo.cluster import EXAMPLES
from demo.example import UPDATE
from e2e import owner, small_model
from e2e.monitors import sending_requests
from local_cluster import gateway, processes
from local_cluster.project_images import KSERVE

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

RATE = 20
REQUESTS = 5000
CLIENTS = 8
NEWEST_MONTH = "2026-03"
MONTH_AFTER = "2026-04"
WARM = {"bake": {"duration": "1h"}, "rollback": {"keepWarm": True}}
STEPS = [{"weight": weight, "duration": "10s"} for weight in (10, 33, 66)]
API = "gateway.networking.k8s.io/v1"


def by_kserve(example, image):
    """Return what replaces the Deployment's spec by that of `examples/kserve`, with one pod."""
    text = (EXAMPLES / "kserve" / "server.yaml").read_text().replace("classifier", UPDATE)
    spec = next(yaml.safe_load_all(text))["spec"]
    pod = spec["template"]["spec"]
    (container,), (sidecar,) = pod["containers"], pod["initContainers"]
    container["image"], sidecar["image"] = image, example.cluster.trainer_image
    sidecar["args"] = [each.replace("/shop/", f"/{example.namespace}/") for each in sidecar["args"]]
    container["resources"]["requests"] = {"cpu": "100m", "memory": "256Mi"}
    container["readinessProbe"]["periodSeconds"] = container["startupProbe"]["periodSeconds"] = 1

    def change(deployment):
        deployment.clear()
        deployment.update(spec, replicas=1)

    return change


def by_gateway(spec):
    """Let the route split the requests in three steps."""
    (target,) = spec["rollout"]["targets"]
    target |= {"service": UPDATE, "httpRoute": UPDATE}
    canary = {"steps": STEPS, "traffic": {"type": "Gateway"}}
    spec["rollout"]["strategy"] = {"type": "Canary", "canary": canary}


def routing(namespace):
    """A Gateway, and the route as the documentation has it in Git."""
    listener = {"name": "web", "protocol": "HTTP", "port": gateway.PORT}
    backends = [
        {"name": name, "port": 80, "weight": weight}
        for name, weight in ((UPDATE, 100), (f"{UPDATE}-canary", 0))
    ]
    specs = {
        "Gateway": ("web", {"gatewayClassName": gateway.CLASS, "listeners": [listener]}),
        "HTTPRoute": (
            UPDATE,
            {"parentRefs": [{"name": "web"}], "rules": [{"backendRefs": backends}]},
        ),
    }
    return [
        {
            "apiVersion": API,
            "kind": kind,
            "metadata": {"name": name, "namespace": namespace},
            "spec": spec,
        }
        for kind, (name, spec) in specs.items()
    ]


@pytest.fixture(scope="module")
def served(small, node_cluster, node_gateway):
    """An update whose imported model KServe's server serves; generation 1 is trained next."""
    example = small("gateway")
    apply = example.kubectl.apply
    routes = routing(example.namespace)
    (image,) = node_cluster.load(KSERVE)
    server = by_kserve(example, image)
    example.begin(change=by_gateway, server=server, before=lambda: apply(routes), shared=True)
    example.goes_live(0)
    return example


@pytest.fixture(scope="module")
def client(served, node_gateway):
    """A client behind the gateway, from the first generation to the last test."""
    through = (node_gateway.address, gateway.PORT)
    with sending_requests(served, RATE, through) as sends:
        sends.wait_for(more=RATE)
        yield sends


def rollout(example, number):
    return (example.generations().get(number, {}).get("status") or {}).get("rollout") or {}


def wait_for_weight(example, number, step):
    """Wait until the requests are split as a step asks for."""

    def seen(_):
        now = rollout(example, number)
        return now.get("step") == step and now.get("weightSeenAt")

    example.wait(seen, what=f"the weight of step {step}")


def shares(traefik, count=REQUESTS):
    """Ask for the generation so often; return its counts."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        each = pool.map(lambda _: asked(traefik, count // CLIENTS), range(CLIENTS))
        return sum(each, Counter())


def asked(traefik, count):
    found = Counter()
    connection = http.client.HTTPConnection(traefik.address, gateway.PORT, timeout=30)
    for _ in range(count):
        connection.request("GET", f"/v2/models/{UPDATE}")
        answer = connection.getresponse()
        body = answer.read()
        found[json.loads(body)["versions"][0] if answer.status == 200 else answer.status] += 1
    connection.close()
    return found


def is_warm(example, number):
    """Whether a pod of a generation is available beside the target's."""
    canary = example.get(f"deployment/{UPDATE}-canary")
    labels = canary.get("metadata", {}).get("labels", {})
    available = canary.get("status", {}).get("availableReplicas", 0)
    return labels.get("springtide.dev/generation") == str(number) and available == 1


def weights(example):
    route = example.get(f"httproute/{UPDATE}")
    return [each["weight"] for each in route["spec"]["rules"][0]["backendRefs"]]


@pytest.mark.survives(
    "Routes",
    "with traffic through Traefik: a generation passes three steps of a canary on KServe's server",
    "5,000 requests are split within 1 point of the weight; no request fails; the owner's weights "
    "are back",
)
def test_a_generation_passes_its_steps_and_no_request_fails(served, client, node_gateway):
    wait_for_weight(served, 1, 1)
    served.edit({"suspend": True})
    time.sleep(1)
    counted = shares(node_gateway)
    print(f"{counted} of {REQUESTS} requests at weight 10")
    assert counted.keys() == {"0", "1"}
    assert counted["1"] / REQUESTS == pytest.approx(0.10, abs=0.01)
    served.edit({"suspend": False})
    served.goes_live(1)
    assert weights(served) == [100, 0]
    assert rollout(served, 1)["step"] == len(STEPS)
    assert client.answered_only_by(1, of=RATE)["failures"] == []


@pytest.mark.survives(
    "Routes",
    "with traffic through Traefik: a rollback is requested during a canary",
    "no request fails, the canary gets none from then on, and its pods go after",
)
def test_a_canary_that_is_rolled_back_gets_no_more_requests_and_none_fails(served, client):
    served.deliver(f"{NEWEST_MONTH}.csv.gz", small_model.month(NEWEST_MONTH))
    served.request("run", "march")
    wait_for_weight(served, 2, 1)
    assert processes.waited(lambda: "2" in client.totals()["generations"], seconds=60)
    asked_at = time.time()
    served.request("rollback.g2", "worse")
    status = served.wait(
        lambda now: now["lastRun"].get("outcome") == "RolledBack", what="the rollback"
    )
    totals = client.answered_only_by(1, of=2 * RATE)
    assert totals["failures"] == []
    assert status["live"]["number"] == 1
    assert weights(served) == [100, 0]
    assert not served.get(f"deployment/{UPDATE}-canary")
    owner.wait_until_served(served, 1)
    last, began = totals["last"]["2"], rollout(served, 2)["rollbackStartedAt"]
    print(f"last answer of the canary: {last - asked_at:.1f} s after the request")
    print(f"and {last - datetime.fromisoformat(began).timestamp():.1f} s after the decision")


@pytest.mark.survives(
    "Routes",
    "with traffic through Traefik: the generation two promotions back is pinned while live bakes, "
    "and the pin removed",
    "it is served until the pin is removed, then live again, whose bake starts again; no request "
    "fails",
)
def test_two_generations_back_is_pinned_and_unpinned_and_no_request_fails(served, client):
    served.edit({"rollout": WARM})
    served.deliver(f"{MONTH_AFTER}.csv.gz", small_model.month(MONTH_AFTER))
    served.request("run", "april")
    served.goes_live(3)
    served.edit({"rollout": {"pin": {"generation": 0}}})
    owner.wait_until_served(served, 0)
    status = served.wait(lambda now: now["phase"] == "Pinned", what="the pin")
    assert status["live"]["number"] == 3
    client.answered_only_by(0, of=RATE)

    served.edit({"rollout": {"pin": None}})
    owner.wait_until_served(served, 3)
    served.wait(lambda now: now["phase"] == "Baking", what="the bake")
    assert client.answered_only_by(3, of=RATE)["failures"] == []
    assert weights(served) == [100, 0]


@pytest.mark.survives(
    "Routes",
    "with traffic through Traefik: a generation that bakes is rolled back, with warm pods of the "
    "previous one",
    "the warm pods get its requests before the target is back; no request fails",
)
def test_a_rollback_to_warm_pods_moves_the_requests_first_and_none_fails(served, client):
    owner.until(lambda: is_warm(served, 1), "a warm pod of generation 1", seconds=180)
    assert weights(served) == [100, 0]
    before = client.totals()["generations"]["3"]
    assert processes.waited(lambda: client.totals()["generations"]["3"] > before + RATE, seconds=60)
    asked_at = time.time()
    served.request("rollback.g3", "worse")
    status = served.wait(
        lambda now: now["lastRun"].get("outcome") == "RolledBack", what="the rollback"
    )
    totals = client.answered_only_by(1, of=2 * RATE)
    assert totals["failures"] == []
    assert status["live"]["number"] == 1
    assert weights(served) == [100, 0]
    assert not served.get(f"deployment/{UPDATE}-canary")
    owner.wait_until_served(served, 1)
    ended = rollout(served, 3)
    (target,) = ended["targets"]
    decided = datetime.fromisoformat(ended["rollbackStartedAt"]).timestamp()
    shifted = datetime.fromisoformat(target["route"]["shiftedAt"]).timestamp()
    last = totals["last"]["3"]
    print(f"last answer of generation 3: {last - asked_at:.2f} s after the request,")
    print(f"{last - decided:.2f} s after the decision, {last - shifted:.2f} s after shiftedAt")
    assert shifted <= datetime.fromisoformat(ended["rolledBackAt"]).timestamp()
