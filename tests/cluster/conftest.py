"""A client on the API server of the session, and a namespace for each test."""

import itertools
import os
import time

import pytest

from springtide_operator.cluster.api.client import Client
from springtide_operator.cluster.api.clock import ServerClock
from springtide_operator.cluster.api.connection import Connection
from springtide_operator.cluster.api.limits import Limits

_numbers = itertools.count(1)


@pytest.fixture
async def client(apiserver):
    connection = await Connection.open(apiserver.kubeconfig)
    yield Client(connection, ServerClock(time.monotonic), Limits(monotonic=time.monotonic))
    await connection.close()


@pytest.fixture
def namespace(apiserver):
    name = f"cluster-{os.getpid()}-{next(_numbers)}"
    apiserver.create_namespace(name)
    return name
