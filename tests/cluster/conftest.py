"""A client on the API server of the session, and a namespace for each test."""

import itertools
import os
import time

import pytest

from springtide_operator.cluster.client import Client
from springtide_operator.cluster.clock import ServerClock
from springtide_operator.cluster.connection import Connection
from springtide_operator.cluster.limits import Limits

_numbers = itertools.count(1)


@pytest.fixture
async def client(apiserver):
    connection = await Connection.open(apiserver.kubeconfig)
    yield Client(connection, ServerClock(time.monotonic), Limits(monotonic=time.monotonic))
    await connection.close()


@pytest.fixture
def namespace(apiserver):
    name = f"cluster-{os.getpid()}-{next(_numbers)}"
    apiserver.kubectl("create", "namespace", name)
    return name
