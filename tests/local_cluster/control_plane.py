"""etcd and kube-apiserver: the part that both levels of the local cluster have in common."""

import http.client
import json
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_cluster import certificates, processes
from local_cluster.places import program
from local_cluster.processes import Daemon, NotReadyError

SERVICES = "10.96.0.0/16"


class KubectlError(RuntimeError):
    """kubectl ended with an error; the message holds its arguments and what it said."""


@dataclass(frozen=True)
class ControlPlane:
    """One etcd and one kube-apiserver in `home`, reached at `address`, run behind `enter`."""

    home: Path
    name: str
    address: str
    port: int = 6443
    etcd_port: int = 2379
    etcd_peer_port: int = 2380
    enter: Sequence[str] = ()
    flags: Sequence[str] = ()

    @property
    def url(self) -> str:
        return f"https://{self.address}:{self.port}"

    @property
    def pki(self) -> Path:
        return self.home / "pki"

    @property
    def kubeconfig(self) -> Path:
        return self.home / "kubeconfig"

    def daemon(self, name: str, argv: Sequence[str]) -> Daemon:
        """A process of this cluster, in its network."""
        return Daemon(name, argv, self.home, self.enter)

    def prepare(self, clients: tuple[str, ...]) -> None:
        """Write keys and the administrator's kubeconfig."""
        certificates.make(self.pki, clients, address=self.address)
        config = certificates.kubeconfig(self.pki, "admin", url=self.url, cluster=self.name)
        self.kubeconfig.write_text(config)
        self.kubeconfig.chmod(0o600)

    def start_etcd(self) -> None:
        """Start etcd; its data is worth little enough to go without fsync."""
        clients = f"http://127.0.0.1:{self.etcd_port}"
        peers = f"http://127.0.0.1:{self.etcd_peer_port}"
        argv = [program("etcd"), "--name=local", f"--data-dir={self.home}/etcd"]
        argv += ["--unsafe-no-fsync", "--log-level=warn"]
        argv += [f"--listen-client-urls={clients}", f"--advertise-client-urls={clients}"]
        argv += [f"--listen-peer-urls={peers}", f"--initial-advertise-peer-urls={peers}"]
        argv += [f"--initial-cluster=local={peers}"]
        self.daemon("etcd", argv).start()

    def start_api_server(self) -> None:
        """Start kube-apiserver; it waits for etcd by itself."""
        self.daemon("kube-apiserver", [program("kube-apiserver"), *self._api_flags()]).start()

    def wait_ready(self, seconds: float = 180) -> None:
        """Return when the API server says that it is ready.

        Raises:
            NotReadyError: it ended or took longer than `seconds`.
        """
        with_certificates = self._tls()

        def done() -> bool:
            return self._is_ready(with_certificates) or not self._runs()

        if not processes.waited(done, seconds=seconds, pause=0.05) or not self._runs():
            raise NotReadyError(
                f"kube-apiserver of {self.name} is not ready:\n{self._last_words()}"
            )

    def is_ready(self) -> bool:
        """Whether the API server answers and is ready."""
        return self._runs() and self._is_ready(self._tls())

    def kubectl(self, *arguments: str, input: str | None = None) -> str:  # noqa: A002
        """Run kubectl as the administrator and return what it printed.

        Raises:
            KubectlError: kubectl ended with an error.
        """
        # Discovery is cached by address, and another cluster may have had this one.
        options = [f"--kubeconfig={self.kubeconfig}", f"--cache-dir={self.home}/kubectl-cache"]
        ran = subprocess.run(
            [program("kubectl"), *options, *arguments],
            input=input,
            capture_output=True,
            text=True,
            check=False,
        )
        if ran.returncode:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {ran.stderr.strip()}")
        return ran.stdout

    def wait_for_crds(self, seconds: float = 60) -> None:
        """Wait until every CustomResourceDefinition is served.

        kubectl fails at once where one has no conditions yet, and is asked again.
        """
        deadline = time.monotonic() + seconds
        arguments = ("wait", "--for=condition=Established", "crd", "--all", "--timeout=10s")
        while True:
            try:
                self.kubectl(*arguments)
            except KubectlError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                return

    def read(self, path: str) -> dict[str, Any]:
        """Return what the API server answers to the administrator at a path, such as /api/v1/pods.

        Raises:
            OSError: it does not answer, or with an error.
        """
        with self._open(path, self._tls()) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def create_namespace(self, name: str) -> None:
        """Create a namespace by one request; kubectl takes ten times as much of a core.

        Raises:
            OSError: the API server does not answer, or with an error.
        """
        body = json.dumps({"metadata": {"name": name}}).encode()
        self._open("/api/v1/namespaces", self._tls(), body).close()

    def _last_words(self) -> str:
        logs = [self.home / "log" / f"{name}.log" for name in ("etcd", "kube-apiserver")]
        return "\n".join(processes.last_lines(log, 5) for log in logs)

    def _runs(self) -> bool:
        daemons = ("etcd", "kube-apiserver")
        return all(processes.running(self.home, name) is not None for name in daemons)

    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.pki / "ca.crt"))
        context.load_cert_chain(self.pki / "admin.crt", self.pki / "admin.key")
        return context

    def _is_ready(self, context: ssl.SSLContext) -> bool:
        try:
            with self._open("/readyz", context) as answer:
                return answer.status == 200
        except (OSError, urllib.error.URLError):
            return False

    def _open(
        self, path: str, context: ssl.SSLContext, body: bytes | None = None
    ) -> http.client.HTTPResponse:
        # The machine's proxy, if it has one, knows nothing of this server.
        direct = urllib.request.ProxyHandler({})
        opener = urllib.request.build_opener(direct, urllib.request.HTTPSHandler(context=context))
        headers = {"Content-Type": "application/json"} if body else {}
        request = urllib.request.Request(f"{self.url}{path}", body, headers)
        answer: http.client.HTTPResponse = opener.open(request, timeout=5 if body is None else 60)
        return answer

    def _api_flags(self) -> list[str]:
        pki = self.pki
        return [
            f"--etcd-servers=http://127.0.0.1:{self.etcd_port}",
            f"--advertise-address={self.address}",
            f"--secure-port={self.port}",
            f"--client-ca-file={pki}/ca.crt",
            f"--tls-cert-file={pki}/apiserver.crt",
            f"--tls-private-key-file={pki}/apiserver.key",
            f"--service-account-key-file={pki}/sa.pub",
            f"--service-account-signing-key-file={pki}/sa.key",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-cluster-ip-range={SERVICES}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            *self.flags,
        ]
