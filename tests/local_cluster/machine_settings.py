"""What a kubelet changes outside its network namespace, remembered and put back.

It sets a few kernel parameters of the whole machine and puts a socket into /var/lib/kubelet.
"""

import contextlib
import json
import socket
from pathlib import Path

from local_cluster.places import CLUSTERS, alone

KERNEL = Path("/proc/sys")
PARAMETERS = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
PLUGIN_SOCKET = Path("/var/lib/kubelet/device-plugins/kubelet.sock")
REMEMBERED = CLUSTERS / "machine-settings.json"
LOCK = CLUSTERS / "machine-settings.lock"


def remember() -> None:
    """Note the parameters as they were before the first cluster."""
    with alone(LOCK):
        if not REMEMBERED.exists():
            values = {name: (KERNEL / name).read_text() for name in PARAMETERS}
            REMEMBERED.write_text(json.dumps(values))


def restore() -> None:
    """Put everything back; called when the last cluster has ended."""
    with alone(LOCK):
        _remove_plugin_socket()
        if not REMEMBERED.exists():
            return
        for name, value in json.loads(REMEMBERED.read_text()).items():
            # A container may read these but not write them; then the kubelet could not either.
            with contextlib.suppress(OSError):
                (KERNEL / name).write_text(value)
        REMEMBERED.unlink()


def _remove_plugin_socket() -> None:
    """Remove the kubelet's socket if no process listens there: a kubelet of the user would."""
    if not PLUGIN_SOCKET.exists():
        return
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(PLUGIN_SOCKET))
        except ConnectionRefusedError:
            PLUGIN_SOCKET.unlink()
            with contextlib.suppress(OSError):  # it holds files of others
                PLUGIN_SOCKET.parent.rmdir()
                PLUGIN_SOCKET.parent.parent.rmdir()
