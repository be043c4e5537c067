from collections.abc import Iterator

import pytest
from local_cluster.apiserver import ApiServer
from local_cluster.control_plane import KubectlError

pytestmark = pytest.mark.apiserver


@pytest.fixture
def own_server() -> Iterator[ApiServer]:
    server = ApiServer()
    try:
        server.open()
        yield server
    finally:
        server.close()


def test_it_stores_an_object(apiserver: ApiServer) -> None:
    apiserver.kubectl("create", "configmap", "stored", "--from-literal=word=springtide")

    word = apiserver.kubectl("get", "configmap", "stored", "-o", "jsonpath={.data.word}")

    assert word == "springtide"


def test_a_user_without_rights_is_refused(apiserver: ApiServer) -> None:
    with pytest.raises(KubectlError, match="forbidden"):
        apiserver.kubectl("get", "secrets", "--as", "another-user")


@pytest.mark.parametrize("ending", [ApiServer.stop, ApiServer.kill])
def test_address_and_data_survive_its_end(own_server: ApiServer, ending) -> None:
    own_server.kubectl("create", "configmap", "kept")
    address = own_server.url

    ending(own_server)
    with pytest.raises(KubectlError, match="refused"):
        own_server.kubectl("get", "configmap", "kept")
    own_server.start()

    assert own_server.url == address
    assert own_server.kubectl("get", "configmap", "kept", "-o", "name") == "configmap/kept\n"


def test_two_servers_run_at_the_same_time_and_share_nothing(
    apiserver: ApiServer, own_server: ApiServer
) -> None:
    apiserver.kubectl("create", "configmap", "only-here")

    with pytest.raises(KubectlError, match="not found"):
        own_server.kubectl("get", "configmap", "only-here")


def test_closing_leaves_no_folder_behind() -> None:
    server = ApiServer()
    server.open()

    server.close()

    assert not server.plane.home.exists()
