"""Command line of the local cluster: `python tests/local_cluster up`, and `--help` for the rest.

Needs nothing but the standard library, so that it also runs before there is a virtual environment.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036 - this runs before pip checks it
    raise SystemExit("springtide needs Python 3.11 or newer; make PYTHON=... names another one")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from local_cluster import images, node, publishing
from local_cluster.node import Node
from local_cluster.node_config import REGISTRY
from local_cluster.places import CACHE
from local_cluster.setting_up import PARTS, set_up


def up(cluster: Node) -> None:
    """start the cluster, or what is missing of it"""
    cluster.up()
    print(f"export KUBECONFIG={cluster.kubeconfig}")


def down(cluster: Node) -> None:
    """end it; objects, images and volumes stay for the next `up`"""
    cluster.down()


def purge(cluster: Node) -> None:
    """end it and remove its data; programs and images stay in the cache"""
    cluster.purge()
    print(f"programs and images stay in {CACHE}")


def status(cluster: Node) -> None:
    """print whether it runs, and what is left of it if not"""
    if cluster.is_up():
        print(f"{cluster.name}: up, kubeconfig {cluster.kubeconfig}")
        return
    print("\n".join([f"{cluster.name}: down", *cluster.traces()]))
    raise SystemExit(1)


def kubeconfig(cluster: Node) -> None:
    """print the path of the administrator's kubeconfig"""
    print(cluster.kubeconfig)


def load_images(cluster: Node) -> None:
    """build the project's images and, where the cluster is up, load them into it"""
    if cluster.is_up():
        print("\n".join(cluster.load(*images.PROJECT)))
    else:
        print("\n".join(images.ensure(image) for image in images.PROJECT))


def publish(cluster: Node, registry: str) -> None:
    """build the project's images, push them and print the commands that install from there"""
    # The local cluster's registry is reached only from the cluster's network.
    inside = registry.partition("/")[0] == REGISTRY and cluster.is_up()
    enter = cluster.network.enter if inside else ()
    print(publishing.commands(*publishing.publish(registry, enter=enter)), end="")


COMMANDS: dict[str, Callable[[Node], None]] = {
    "up": up,
    "down": down,
    "purge": purge,
    "status": status,
    "kubeconfig": kubeconfig,
    "images": load_images,
}


def main() -> None:
    arguments = _parser().parse_args()
    started = time.monotonic()
    try:
        if arguments.command == "setup":
            set_up(parts=arguments.parts)
        elif arguments.command == "publish":
            publish(Node(arguments.name), arguments.registry)
        else:
            COMMANDS[arguments.command](Node(arguments.name))
    except (RuntimeError, OSError) as error:
        raise SystemExit(f"{arguments.command}: {error}") from error
    print(f"{arguments.command}: {time.monotonic() - started:.1f} s", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="local_cluster", description=node.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    setup = commands.add_parser("setup", help="get everything that the other commands need")
    setup.add_argument("parts", choices=PARTS, nargs="?", default="tools")
    pushing = commands.add_parser("publish", help=publish.__doc__)
    pushing.add_argument("registry", help="such as registry.example/team")
    named = [pushing, *(commands.add_parser(key, help=COMMANDS[key].__doc__) for key in COMMANDS)]
    for one in named:
        one.add_argument("--name", default=node.from_environment().name, help="of the cluster")
    return parser


if __name__ == "__main__":
    main()
