import asyncio
import gc

from event_loop import PatientLoop


async def connection_closed_at_the_last_moment():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    transport, _ = await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())
    server.close()
    transport.close()


def left_open(loop, monkeypatch):
    """Name what the collector reports after the loop has closed."""
    reported = []
    monkeypatch.setattr("sys.unraisablehook", lambda report: reported.append(report.exc_value))
    loop.run_until_complete(connection_closed_at_the_last_moment())
    loop.close()
    del loop
    gc.collect()
    return [str(each) for each in reported]


def test_a_connection_closed_just_before_the_loop_ends_with_it(monkeypatch):
    assert left_open(PatientLoop(), monkeypatch) == []


def test_a_plain_loop_leaves_such_a_connection_open(monkeypatch):
    assert any("unclosed" in each for each in left_open(asyncio.SelectorEventLoop(), monkeypatch))


async def test_every_test_has_a_loop_that_waits():
    assert isinstance(asyncio.get_running_loop(), PatientLoop)


def test_a_loop_closes_twice_without_harm():
    loop = PatientLoop()
    loop.close()
    loop.close()
    assert loop.is_closed()
