"""A hub with one private model, in the network of a cluster, where pods reach it."""

import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from local_cluster.node import Node
from local_cluster.prometheus import WITH_ITS_PARENT
from trainer.hub import server

PORT = 7080
"""On the address of the node; large files are on the next one."""
NAME = "shop/tiny"


def endpoint(node: Node) -> str:
    """Return where a hub of the cluster listens, once it runs."""
    return f"http://{node.network.node_address}:{PORT}"


@dataclass
class ModelHub:
    """A hub whose model needs a token.

    Attributes:
        commit: That of the model, once it is published.
    """

    node: Node
    commit: str = ""
    _processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def publish(self, folder: Path) -> None:
        """Start with the model of a folder, which is then nowhere else."""
        program = [sys.executable, str(server.__file__), self.node.network.node_address, str(PORT)]
        argv = self.node.in_namespace([*WITH_ITS_PARENT, *program, NAME, str(folder)])
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        self._processes.append(process)
        assert process.stdout is not None
        self.commit = process.stdout.readline().strip()
        shutil.rmtree(folder)

    def stop(self) -> None:
        """End it."""
        for process in self._processes:
            process.kill()
            process.communicate()
