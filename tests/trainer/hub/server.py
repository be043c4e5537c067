"""A small server with the part of the Hugging Face hub's protocol that a download needs.

A model's info at a revision, and files at a revision by HEAD and GET: headers for commit, digest
and size, ranges, and for large files a redirect to a signed URL on another host. Faults on demand.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

TOKEN = "hf_AbCdEfGhIjKlMnOpQrStUvWxYz"
SIGNATURE = "c2lnbmVkLWJ5LXRoZS1odWI"
LARGE = (".safetensors", ".bin")
"""Files in large file storage, as `.gitattributes` of the hub's models names them."""

Fault = Callable[["Request"], str]
"""Returns what happens to a request: "pass"; a status; "cut", the answer ends in the middle;
"short", it ends there and is announced so; "other", it has other bytes; "html", it is a page."""


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    """Without the query."""
    start: int
    """First byte of the range; 0: the whole file."""
    token: str | None
    large: bool
    """Whether the host of large files was asked."""
    number: int
    """How many times this method and path were requested, this time included."""


@dataclass
class Model:
    """Files of each commit, and the commits of branches and tags."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    revisions: dict[str, str] = field(default_factory=dict)
    private: bool = False
    gated: bool = False
    """Its info is public, its files are not, not even with TOKEN."""


class HubServer:
    """Serves models at `endpoint`; `fault` decides about each request."""

    def __init__(self, address: str = "127.0.0.1", port: int = 0) -> None:
        self.models: dict[str, Model] = {}
        self.fault: Fault = lambda request: "pass"
        self.requests: list[Request] = []
        self._servers = [_Server((address, each), _Handler) for each in (port, port and port + 1)]
        self.endpoint, self.large_files = (
            f"http://{address}:{server.server_port}" for server in self._servers
        )
        for server in self._servers:
            server.hub, server.large = self, server is self._servers[1]
            threading.Thread(target=server.serve_forever, daemon=True).start()

    def close(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def publish(self, name: str, files: Path | Mapping[str, bytes], branch: str = "main") -> str:
        """Commit files to a branch; return the commit."""
        if isinstance(files, Path):
            files = {path.name: path.read_bytes() for path in files.iterdir()}
        model = self.models.setdefault(name, Model())
        digests = {path: _sha256(content) for path, content in sorted(files.items())}
        commit = hashlib.sha1(json.dumps([len(model.commits), digests]).encode()).hexdigest()
        model.commits[commit] = dict(files)
        model.revisions[branch] = commit
        return commit

    def asked(self, method: str = "GET") -> list[str]:
        """Return the paths of requests, in order."""
        return [request.path for request in self.requests if request.method == method]

    def large_file(self, digest: str) -> bytes | None:
        return next(
            (
                content
                for model in self.models.values()
                for files in model.commits.values()
                for content in files.values()
                if _sha256(content) == digest
            ),
            None,
        )


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    hub: HubServer
    large: bool


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub, path = self.server.hub, unquote(urlsplit(self.path).path)
        same = [each for each in hub.requests if (each.method, each.path) == (self.command, path)]
        bearer = self.headers.get("Authorization")
        request = Request(
            self.command,
            path,
            int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0]),
            bearer and bearer.removeprefix("Bearer "),
            self.server.large,
            len(same) + 1,
        )
        hub.requests.append(request)
        action = hub.fault(request)
        if action.isdigit():
            self._refuse(int(action), "")
        elif action == "html":
            self._answer(200, {"Content-Type": "text/html"}, b"<html>Sign in</html>")
        elif self.server.large:
            self._large(request, action)
        else:
            self._model(request, action)

    def _large(self, request: Request, action: str) -> None:
        content = self.server.hub.large_file(request.path.rpartition("/")[2])
        if content is None or urlsplit(self.path).query != f"Signature={SIGNATURE}":
            self._refuse(403, "")
        else:
            self._file(request, {}, content, action)

    def _model(self, request: Request, action: str) -> None:
        way = request.path.strip("/").split("/")
        info = way[:2] == ["api", "models"]
        organization, name, verb, revision, *file = way[2:] if info else way
        model = self.server.hub.models.get(f"{organization}/{name}")
        if request.token not in {None, TOKEN}:
            self._refuse(401, "", "Invalid credentials in Authorization header")
        elif model is None or (model.private and not request.token):
            self._refuse(404 if request.token else 401, "RepoNotFound" if request.token else "")
        elif (commit := model.revisions.get(revision, revision)) not in model.commits:
            self._refuse(404, "RevisionNotFound")
        elif info and verb == "revision":
            found = {
                "id": f"{organization}/{name}",
                "sha": commit,
                "siblings": [{"rfilename": path} for path in model.commits[commit]],
            }
            body = json.dumps(found).encode()
            self._file(request, {"Content-Type": "application/json"}, body, action)
        elif model.gated:
            self._refuse(403 if request.token else 401, "GatedRepo")
        elif verb != "resolve" or "/".join(file) not in model.commits[commit]:
            self._refuse(404, "EntryNotFound")
        else:
            self._resolve(request, commit, "/".join(file), action)

    def _resolve(self, request: Request, commit: str, file: str, action: str) -> None:
        organization, name = request.path.strip("/").split("/")[:2]
        content = self.server.hub.models[f"{organization}/{name}"].commits[commit][file]
        known = {"X-Repo-Commit": commit}
        if not file.endswith(LARGE):
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            self._file(request, {**known, "ETag": f'"{blob}"'}, content, action)
            return
        digest = _sha256(content)
        known |= {"X-Linked-ETag": f'"{digest}"', "X-Linked-Size": str(len(content))}
        # Today's hub offers another protocol beside plain HTTP, to hosts of its own.
        known |= {"X-Xet-Hash": digest, "X-Xet-Refresh-Route": f"{self.server.hub.endpoint}/xet"}
        location = f"{self.server.hub.large_files}/lfs/{digest}?Signature={SIGNATURE}"
        self._answer(302, {**known, "Location": location}, b"")

    def _file(self, request: Request, headers: dict[str, str], content: bytes, action: str) -> None:
        if action == "other":
            content = bytes(byte ^ 1 for byte in content)
        part, status = content[request.start :], 200
        if request.start:
            status = 206
            last = f"{request.start}-{len(content) - 1}/{len(content)}"
            headers = {**headers, "Content-Range": f"bytes {last}"}
        if action == "short" and request.method == "GET":
            part = part[: len(part) // 2]
        self._answer(status, headers, part, cut=action == "cut")

    def _refuse(self, status: int, code: str, message: str = "no") -> None:
        known = {"X-Error-Code": code} if code else {}
        self._answer(status, {**known, "X-Error-Message": message}, b'{"error": "no"}')

    def _answer(
        self, status: int, headers: dict[str, str], content: bytes, *, cut: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self.close_connection = True


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def main(address: str, port: str, name: str, folder: str) -> None:
    """Serve the model of a folder to whoever has the token, until this process ends."""
    hub = HubServer(address, int(port))
    commit = hub.publish(name, Path(folder))
    hub.models[name].private = True
    print(commit, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
