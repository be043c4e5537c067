"""Free ports of the loopback address, for servers whose port must be known before they start.

They lie below the range that the kernel takes the ports of outgoing connections from: a port of
that range that is free now may be the client side of another connection a moment later. Workers of
one test run choose from ranges of their own.
"""

import os
import random
import socket

LOWEST, HIGHEST = 20000, 32000
EACH = 1000
"""So many ports has a worker to choose from."""


_given: set[int] = set()
"""Ports that this process gave away: their servers may not listen on them yet."""


def free_ports(count: int, environment: dict[str, str] | None = None) -> list[int]:
    """Choose ports on which nothing listens."""
    lowest = _lowest(environment if environment is not None else dict(os.environ))
    found: list[int] = []
    for port in random.sample(range(lowest, lowest + EACH), EACH):
        if port not in _given and _is_free(port):
            found.append(port)
        if len(found) == count:
            _given.update(found)
            return found
    if _given:
        _given.clear()  # most of their servers are gone by now
        return free_ports(count, environment)
    raise RuntimeError(f"no {count} free ports from {lowest} to {lowest + EACH - 1}")


def free_port() -> int:
    """Choose a port on which nothing listens."""
    (port,) = free_ports(1)
    return port


def _lowest(environment: dict[str, str]) -> int:
    ranges = (HIGHEST - LOWEST) // EACH
    if worker := environment.get("PYTEST_XDIST_WORKER", "").removeprefix("gw"):
        return LOWEST + (int(worker) + 1) % ranges * EACH
    return LOWEST


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
