"""A proxy before the S3 server that fails requests on demand, as networks and servers do."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

Fault = Callable[[str, str, int], str]
"""Called with method, path and number of the request. Returns what to do: "pass"; "503" or another
status without asking the server, also with a code of S3 ("400 ExpiredToken"); "list a//b", the
answer lists this object; "cut", the answer ends in the middle; "lost", the server does it and the
client hears nothing; "slow", a second later."""
OWN = {"transfer-encoding", "connection", "content-length", "date", "server"}
"""Headers of an answer that the proxy writes itself."""
LISTING = (
    "<ListBucketResult><Contents><Key>{key}</Key><Size>1</Size><ETag>1</ETag>"
    "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents></ListBucketResult>"
)


class Proxy:
    """Forwards to a server; `fault` decides about each request."""

    def __init__(self, endpoint: str) -> None:
        self.upstream = urlsplit(endpoint).netloc
        self.fault: Fault = lambda method, path, number: "pass"
        self.requests = 0
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    proxy: Proxy


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        proxy = self.server.proxy
        proxy.requests += 1
        action = proxy.fault(self.command, self.path, proxy.requests)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if action[:3].isdigit():
            status, _, code = action.partition(" ")
            error = f"<Error><Code>{code}</Code><Message>over</Message></Error>" if code else ""
            self._answer(int(status), {}, error.encode())
            return
        if action.startswith("list "):
            self._answer(200, {}, LISTING.format(key=action.removeprefix("list ")).encode())
            return
        if action == "slow":
            time.sleep(1)
        server = http.client.HTTPConnection(proxy.upstream, timeout=30)
        try:
            server.request(self.command, self.path, body or None, dict(self.headers.items()))
            found = server.getresponse()
            content, headers = found.read(), dict(found.getheaders())
        except OSError:
            action = "lost"
        finally:
            server.close()
        if action == "lost":
            self.close_connection = True
        else:
            self._answer(found.status, headers, content, cut=action == "cut")

    def _answer(
        self, status: int, headers: dict[str, str], content: bytes, *, cut: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in OWN:
                self.send_header(name, value)
        length = headers.get("Content-Length") if self.command == "HEAD" else None
        self.send_header("Content-Length", length or str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if cut else content)
        self.wfile.flush()
        self.close_connection = self.close_connection or cut

    def log_message(self, *arguments: object) -> None:
        """Log nothing."""
