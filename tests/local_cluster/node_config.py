"""The configuration files of a node: what containerd, CNI, kubelet, kube-proxy and the rest read.

Written as JSON where YAML is expected, which is the same thing. The less obvious settings are what
a machine without systemd, with cgroup v1 or inside a container itself needs.
"""

import json
from pathlib import Path

PODS = "10.244.0.0/24"
REGISTRY = "localhost:5000"
PAUSE = f"{REGISTRY}/pause:1"


def write(
    home: Path, *, name: str, address: str, cgroup: str, registry: Path, images: Path
) -> None:
    """Write all configuration files of the node into `home`."""
    for folder in ("cni/conf", "cni/data", "run", "kubelet", "pods"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    (home / "containerd.toml").write_text(_containerd(home, images))
    (home / "cni/conf/10-bridge.conflist").write_text(json.dumps(_bridge(home)))
    (home / "kubelet.json").write_text(json.dumps(_kubelet(home, address, cgroup)))
    (home / "resolv.conf").write_text(f"nameserver {address}\n")
    (home / "proxy.json").write_text(json.dumps(_proxy(home)))
    (home / "Corefile").write_text(_corefile(home, name, address))
    (home / "registry.json").write_text(json.dumps(_registry(registry)))


def _containerd(home: Path, images: Path) -> str:
    return f"""\
version = 2
root = "{images}/containerd"
state = "{home}/run/containerd"
[grpc]
  address = "{home}/run/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{home}/run/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  # Inside a container a process may not lower its score, and runc gives up over it.
  restrict_oom_score_adj = true
  # Below our state, so that whose they are needs no guess when the cluster is taken down.
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{home}/cni/conf"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    # Blobs that are unpacked need not lie on the disk a second time.
    discard_unpacked_layers = true
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        Root = "{home}/run/runc"
"""


def _bridge(home: Path) -> dict:
    addresses = {
        "type": "host-local",
        "dataDir": f"{home}/cni/data",
        "ranges": [[{"subnet": PODS}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": addresses,
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge, ports]}


def _kubelet(home: Path, address: str, cgroup: str) -> dict:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{home}/pki/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{home}/pki/kubelet.crt",
        "tlsPrivateKeyFile": f"{home}/pki/kubelet.key",
        "clusterDNS": [address],
        "clusterDomain": "cluster.local",
        "resolvConf": f"{home}/resolv.conf",
        "containerRuntimeEndpoint": f"unix://{home}/run/containerd.sock",
        "podLogsDir": f"{home}/pods",
        "volumePluginDir": f"{home}/kubelet/plugins",
        "cgroupDriver": "cgroupfs",
        # A cgroup of its own tells the containers of this cluster from all other processes.
        "cgroupRoot": cgroup,
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "localStorageCapacityIsolation": False,
        "imageGCHighThresholdPercent": 99,
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "imagefs.available": "1%",
        },
        "serializeImagePulls": False,
        "syncFrequency": "10s",
        "maxPods": 100,
    }


def _proxy(home: Path) -> dict:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": PODS,
        "hostnameOverride": "node",
        "clientConnection": {"kubeconfig": f"{home}/proxy.kubeconfig"},
        # These would be written to the whole machine, which a container may not do.
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }


def _corefile(home: Path, name: str, address: str) -> str:
    return f"""\
cluster.local:53 in-addr.arpa:53 {{
  bind {address}
  errors
  kubernetes cluster.local in-addr.arpa {{
    kubeconfig {home}/kubeconfig {name}
    ttl 5
  }}
  cache 5
}}
# There is no way out of the namespace, so every other name is answered at once: it is unknown.
.:53 {{
  bind {address}
  template ANY ANY {{
    rcode NXDOMAIN
  }}
}}
"""


def _registry(folder: Path) -> dict:
    return {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder)}, "delete": {"enabled": True}},
        "http": {"addr": "127.0.0.1:5000"},
    }
