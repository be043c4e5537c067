"""Ports that nothing listens on, and that no other worker of the test run chooses."""

import socket

from local_cluster import ports


def choice(worker):
    return set(ports.free_ports(50, {"PYTEST_XDIST_WORKER": worker} if worker else {}))


def test_workers_and_a_run_without_workers_choose_from_ranges_of_their_own():
    chosen = [choice(worker) for worker in ("", "gw0", "gw1", "gw9")]
    assert sum(map(len, chosen)) == len(set.union(*chosen))
    assert all(ports.LOWEST <= port < ports.HIGHEST for each in chosen for port in each)


def test_a_port_that_is_taken_is_not_chosen():
    with socket.create_server(("127.0.0.1", ports.free_port())) as taken:
        found = ports.free_ports(ports.EACH - 50)
        assert taken.getsockname()[1] not in found
