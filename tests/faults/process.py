"""The operator's real process, restarted when it ends, as the kubelet restarts a container."""

import asyncio
import os
import signal
import sys

import aiohttp
from faults.forked import Forked
from local_cluster.ports import free_ports


class Process:
    """One pod with the operator of a scene; the log is that of all its containers.

    More settings are named as their variables are: `lease_seconds=15`. A `forked` process has its
    imports from another one, which many starts need to be quick.
    """

    def __init__(self, scene, log, kubeconfig=None, trainer="trainer", *, forked=False, **settings):
        names = ("PROGRESS", "HEALTH", "METRICS")
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        self.log, self._forked = log, forked
        self.restarts = 0
        self._running = None
        self._environment = {
            **os.environ,
            **{f"SPRINGTIDE_{name}_PORT": str(port) for name, port in self.ports.items()},
            "KUBECONFIG": str(kubeconfig or scene.ground.kubeconfig),
            "SPRINGTIDE_TRAINER_IMAGE": trainer,
            "SPRINGTIDE_PROGRESS_URL": "http://operator:8080",
            "SPRINGTIDE_NAMESPACE": scene.namespace,
            "SPRINGTIDE_LEASE_NAMESPACE": scene.namespace,
            "SPRINGTIDE_IDENTITY": "operator",
            **{f"SPRINGTIDE_{name.upper()}": str(value) for name, value in settings.items()},
            "NO_PROXY": "127.0.0.1",
        }

    async def start(self):
        if self._forked:
            self._running = Forked(self._environment, self.log)
            return
        with self.log.open("ab") as written:
            self._running = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "springtide_operator", env=self._environment, stderr=written
            )

    async def answering(self):
        """Wait until it answers: on a loaded machine its imports alone take many seconds."""
        while not (await self.get("HEALTH", "/healthz"))[0]:
            assert self._running.returncode is None, "it ended before it answered"
            await asyncio.sleep(0.1)

    def kill(self):
        """As the kernel does to it: it cannot see it come."""
        self._running.kill()

    async def killed(self):
        """Wait for the end of one that was killed."""
        assert await self._running.wait() == -signal.SIGKILL

    def freeze(self):
        """Stop it wherever it is, as a paused virtual machine does; its connections stay."""
        self._running.send_signal(signal.SIGSTOP)

    def thaw(self):
        """Let it go on as if nothing had been."""
        self._running.send_signal(signal.SIGCONT)

    async def ended(self):
        """Wait until it ends by itself; return its exit status."""
        return await self._running.wait()

    async def terminate(self):
        """Ask it to end; return its exit status."""
        self._running.terminate()
        return await self._running.wait()

    async def keep(self, longest=300):
        """Start it whenever it ends, as the kubelet does, until cancelled.

        The first time at once, then 10 s after the end, and twice as long each time, up to the
        seconds `longest`.
        """
        wait = 0
        while True:
            await self._running.wait()
            await asyncio.sleep(wait)
            wait = min(longest, 2 * wait or 10)
            self.restarts += 1
            await self.start()

    async def close(self):
        """Leave nothing behind."""
        if self._running is not None and self._running.returncode is None:
            self._running.kill()
            await self._running.wait()

    async def get(self, port, path):
        """Ask one of its ports; return status and text, 0 without an answer."""
        timeout = aiohttp.ClientTimeout(total=5)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(f"http://127.0.0.1:{self.ports[port]}{path}") as answer,
            ):
                return answer.status, await answer.text()
        except (aiohttp.ClientError, TimeoutError):
            return 0, ""

    async def metric(self, name):
        """Read one number without labels; None without an answer."""
        _, text = await self.get("METRICS", "/metrics")
        lines = (line.split() for line in text.splitlines())
        return next((float(words[1]) for words in lines if words and words[0] == name), None)
