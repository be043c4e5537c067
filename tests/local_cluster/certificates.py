"""Keys, certificates and kubeconfigs of a cluster, made once by openssl and valid for ten years."""

import base64
import json
import subprocess
from pathlib import Path

EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")

# Who speaks to the API server: name of the files -> subject of the certificate.
CLIENTS = {
    "admin": "/O=system:masters/CN=admin",
    "controller-manager": "/CN=system:kube-controller-manager",
    "scheduler": "/CN=system:kube-scheduler",
    "proxy": "/CN=system:kube-proxy",
    "kubelet": "/O=system:nodes/CN=system:node:node",
    "front-proxy": "/CN=front-proxy",
}
API_SERVER_NAMES = (
    "DNS:localhost",
    "DNS:kubernetes",
    "DNS:kubernetes.default",
    "DNS:kubernetes.default.svc",
    "DNS:kubernetes.default.svc.cluster.local",
    "IP:127.0.0.1",
    "IP:10.96.0.1",
)


def make(pki: Path, clients: tuple[str, ...], *, address: str) -> None:
    """Write authority, server, client and service account keys into `pki` unless they are there."""
    done = pki / f"made-for-{address}"
    if done.exists():
        return
    pki.mkdir(parents=True, exist_ok=True)
    _openssl(
        ["req", "-x509", *EC, "-days", "3650", "-subj", "/CN=local-ca"],
        ["-keyout", pki / "ca.key", "-out", pki / "ca.crt"],
    )
    _openssl(
        ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1"],
        ["-out", pki / "sa.key"],
    )
    _openssl(["pkey", "-in", pki / "sa.key", "-pubout", "-out", pki / "sa.pub"])
    names = ",".join((*API_SERVER_NAMES, f"IP:{address}"))
    _signed(pki, "apiserver", "/CN=kube-apiserver", names)
    for client in clients:
        # The kubelet answers the API server with the certificate it calls it with.
        _signed(pki, client, CLIENTS[client], f"IP:{address}" if client == "kubelet" else "")
    done.touch()


def kubeconfig(pki: Path, client: str, *, url: str, cluster: str) -> str:
    """A kubeconfig (JSON, which is YAML as well) that holds the certificates themselves."""
    user = {
        "client-certificate-data": _encoded(pki / f"{client}.crt"),
        "client-key-data": _encoded(pki / f"{client}.key"),
    }
    server = {"server": url, "certificate-authority-data": _encoded(pki / "ca.crt")}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster, "cluster": server}],
        "users": [{"name": f"{cluster}-{client}", "user": user}],
        "contexts": [
            {"name": cluster, "context": {"cluster": cluster, "user": f"{cluster}-{client}"}}
        ],
        "current-context": cluster,
    }
    return json.dumps(config, indent=1)


def _signed(pki: Path, name: str, subject: str, alternative_names: str) -> None:
    extensions = "extendedKeyUsage=serverAuth,clientAuth\n"
    if alternative_names:
        extensions += f"subjectAltName={alternative_names}\n"
    (pki / f"{name}.ext").write_text(extensions)
    request = pki / f"{name}.csr"
    _openssl(["req", *EC, "-subj", subject, "-keyout", pki / f"{name}.key", "-out", request])
    _openssl(
        ["x509", "-req", "-in", request, "-CA", pki / "ca.crt", "-CAkey", pki / "ca.key"],
        ["-CAcreateserial", "-days", "3650", "-out", pki / f"{name}.crt"],
        ["-extfile", pki / f"{name}.ext"],
    )


def _openssl(*arguments: list[str | Path]) -> None:
    words = [str(word) for group in arguments for word in group]
    subprocess.run(["openssl", *words], check=True, capture_output=True)


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
