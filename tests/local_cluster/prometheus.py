"""A real Prometheus for tests: a process with a data folder of its own, ended by its pid.

On the loopback address it reads `Samples`, in a cluster the pods of servers (`monitoring`).
"""

import json
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from local_cluster import processes
from local_cluster.places import program
from local_cluster.ports import free_port
from local_cluster.processes import Daemon, NotReadyError

NAME = "prometheus"
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""The machine's proxy, if it has one, knows nothing of these servers."""
# It ends with the thread that started it, so that a killed test run leaves none behind.
WITH_ITS_PARENT = ("setpriv", "--pdeathsig=KILL")
ATTEMPTS = 3


class Page:
    """A page that Prometheus reads, made for each reader.

    Args:
        content: returns it.
        kind: its content type.
        host: address on which it is served.
    """

    def __init__(
        self, content: Callable[[], str], *, kind: str = "text/plain", host: str = "127.0.0.1"
    ) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                try:
                    body = content().encode()
                except OSError as error:
                    self.send_error(503, str(error))
                    return
                with suppress(ConnectionError):  # a reader that waited no longer
                    self.send_response(200)
                    self.send_header("Content-Type", kind)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer((host, 0), Handler)
        self.address = f"{host}:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """End the server."""
        self._server.shutdown()
        self._server.server_close()


class Samples:
    """A page of metrics on a loopback port; a test sets what it shows."""

    def __init__(self) -> None:
        self._values: dict[str, float] = {}
        self._lock = threading.Lock()
        self._page = Page(self._text)
        self.address = self._page.address
        self.close = self._page.close

    def set(self, series: str, value: float) -> None:
        """Show a value from now on; `series` is a name with labels, such as `up{role="live"}`."""
        with self._lock:
            self._values[series] = value

    def remove(self, series: str) -> None:
        """Show it no longer: from the next scrape on it has no value."""
        with self._lock:
            self._values.pop(series, None)

    def _text(self) -> str:
        with self._lock:
            return "".join(f"{series} {value}\n" for series, value in self._values.items())


class Prometheus:
    """One process at `address`:`port`, run behind `enter`, that scrapes what `scrape` says.

    Args:
        home: folder of its configuration, data, log and pid.
        scrape: entries of `scrape_configs`.
        interval: between two scrapes, and the time that one may take.
        address: on which it listens.
        port: on which it listens.
        enter: prefix of the command.
    """

    def __init__(
        self,
        home: Path,
        scrape: Sequence[Mapping[str, Any]],
        *,
        interval: str,
        address: str = "127.0.0.1",
        port: int,
        enter: Sequence[str] = WITH_ITS_PARENT,
    ) -> None:
        self.home = home
        self.url = f"http://{address}:{port}"
        times = {"scrape_interval": interval, "scrape_timeout": interval}
        self._config = {"global": times, "scrape_configs": list(scrape)}
        file = home / "prometheus.yml"
        argv = [
            program("prometheus"),
            f"--config.file={file}",
            f"--storage.tsdb.path={home / 'prometheus'}",
            f"--web.listen-address={address}:{port}",
        ]
        self._daemon = Daemon(NAME, argv, home, enter)

    def start(self) -> None:
        """Start it and return when it answers queries.

        Raises:
            NotReadyError: it ended or did not answer within a minute.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        # JSON is YAML.
        (self.home / "prometheus.yml").write_text(json.dumps(self._config))
        self._daemon.start_until(self._is_ready)

    def stop(self) -> None:
        """End it as a crash would; its data stays."""
        processes.stop(self.home, [NAME])

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an instant query, each with `metric` and `value`.

        Raises:
            urllib.error.HTTPError: Prometheus refuses the expression.
        """
        words = urllib.parse.urlencode({"query": expression})
        with DIRECT.open(f"{self.url}/api/v1/query?{words}", timeout=30) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return found

    def wait_for(self, expression: str, *, seconds: float = 60) -> list[dict[str, Any]]:
        """Return the series of a query once there are any, such as of `errors == 3`.

        Raises:
            AssertionError: there are none after so many seconds.
        """
        found: list[dict[str, Any]] = []

        def there() -> bool:
            found[:] = self.query(expression)
            return bool(found)

        assert processes.waited(there, seconds=seconds, pause=0.1), f"{expression} has no series"
        return found

    def _is_ready(self) -> bool:
        try:
            with DIRECT.open(f"{self.url}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def on_loopback(
    home: Path,
    samples: Samples,
    *,
    labels: Mapping[str, str] | None = None,
    relabel: Sequence[Mapping[str, Any]] = (),
    honor: bool = False,
) -> Prometheus:
    """Start one that reads `samples` five times a second, on a free port of the loopback address.

    Args:
        home: folder of its configuration, data, log and pid.
        samples: what it scrapes.
        labels: of the target, as a discovery finds them.
        relabel: entries of `relabel_configs`.
        honor: whether labels of the samples win over those of the target.

    Raises:
        NotReadyError: it did not start.
    """
    target = {"targets": [samples.address], "labels": dict(labels or {})}
    scrape = {
        "job_name": "samples",
        "static_configs": [target],
        "relabel_configs": list(relabel),
        "honor_labels": honor,
    }
    for attempt in range(1, ATTEMPTS + 1):
        made = Prometheus(home, [scrape], interval="200ms", port=free_port())
        try:
            made.start()
            break
        except NotReadyError:  # another process may have taken the port meanwhile
            if attempt == ATTEMPTS:
                raise
            made.stop()
    return made
