"""The credentials of a pod: read from their file, again after a refusal, and missed for a while."""

import time

import pytest
from kubernetes.aio.config import incluster_config

from springtide_operator.cluster.api import connection as connections
from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.client import Client
from springtide_operator.cluster.api.clock import ServerClock
from springtide_operator.cluster.api.connection import Connection
from springtide_operator.cluster.api.kinds import NAMESPACE
from springtide_operator.cluster.api.limits import Limits

pytestmark = pytest.mark.apiserver


@pytest.fixture
def token(apiserver, tmp_path, monkeypatch):
    """The file of a pod's token, which is not valid."""
    file = tmp_path / "token"
    file.write_text("invalid")
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", apiserver.url.rpartition(":")[2])
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(file))
    authority = apiserver.plane.pki / "ca.crt"
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(authority))
    monkeypatch.setattr(connections, "RELOAD_SECONDS", 0.0)
    return file


@pytest.mark.survives(
    "API server",
    "refuses the pod's token; the file of the next token is missing or empty for a moment",
    "the new token is taken from its file as soon as it is there",
)
async def test_a_pod_s_token_is_read_again_after_a_refusal(apiserver, namespace, token):
    apiserver.kubectl("create", "serviceaccount", "operator", "-n", namespace)
    connection = await Connection.open()
    client = Client(connection, ServerClock(time.monotonic), Limits(monotonic=time.monotonic))

    async def ask(expected):
        with pytest.raises(expected):
            await client.get(NAMESPACE, "", "default")

    await ask(errors.Unauthorized)
    token.write_text("")
    await ask(errors.Unavailable)
    token.unlink()
    await ask(errors.Unavailable)
    token.write_text(apiserver.kubectl("create", "token", "operator", "-n", namespace).strip())
    await ask(errors.Unauthorized)  # the old one, for the last time
    await ask(errors.Forbidden)  # known by now, and without any rights
    await connection.close()


async def test_a_proxy_of_the_environment_is_used_unless_it_excepts_the_server(
    apiserver, namespace, monkeypatch
):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setenv("no_proxy", "")
    through = await Connection.open(apiserver.kubeconfig)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    direct = await Connection.open(apiserver.kubeconfig)
    for connection in (through, direct):
        client = Client(connection, ServerClock(time.monotonic), Limits(monotonic=time.monotonic))
        if connection is through:
            with pytest.raises(errors.Unavailable, match=r"Cannot connect to host 127.0.0.1:9"):
                await client.get(NAMESPACE, "", namespace)
        else:
            assert (await client.get(NAMESPACE, "", namespace))["metadata"]["name"] == namespace
        await connection.close()
