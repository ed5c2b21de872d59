"""Whole node workers on simulated hosts, called through their CNI sockets; only the allocator is a fake."""

import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from cni import wire
from node_worker.inbox import Inbox
from node_worker.netlink import simulated
from node_worker.netlink.namespace import Netns
from node_worker.netlink.session import inside
from node_worker.worker import WorkerConfig, run
from tests.metrics_fakes import unwatched
from tests.node_allocator import FakeAllocator
from tests.node_fakes import until


class Cluster:
    """Two hosts joined by an underlay, and pods; a worker for a host runs while `worker` is open."""

    def __init__(self, folder: Path, allocator: FakeAllocator) -> None:
        self.folder = folder
        self.allocator = allocator
        self.made: list[str] = []
        self.inboxes = {"a": Inbox(), "b": Inbox()}
        self._tag = f"mow-{os.getpid()}-{secrets.token_hex(2)}"
        for host in ("a", "b"):
            self._create(host)
        self.made.append(self.name("underlay"))
        simulated.connect_hosts(self.name("underlay"), [self.name("a"), self.name("b")])

    def name(self, what: str) -> str:
        return f"{self._tag}-{what}"

    def _create(self, what: str) -> None:
        simulated.create_netns(self.name(what))
        self.made.append(self.name(what))

    async def pod(self, what: str) -> str:
        """A new sandbox; its container_id is `what`."""
        await asyncio.to_thread(self._create, what)
        return what

    def end_pod(self, what: str) -> None:
        simulated.remove_netns(self.name(what))

    def path(self, what: str) -> str:
        return str(simulated.netns_path(self.name(what)))

    def config(self, host: str) -> WorkerConfig:
        folder = self.folder / host
        return WorkerConfig(
            f"node-{host}", folder / "journal", folder / "cni.sock", Path(self.path(host)), repair_s=0.2
        )

    async def ip(self, what: str, *words: str) -> str:
        """What `ip` says inside a namespace."""
        program = ["nsenter", f"--net={self.path(what)}", "ip", *words]
        ip = await asyncio.create_subprocess_exec(*program, stdout=asyncio.subprocess.PIPE)
        said, _ = await ip.communicate()
        return said.decode()

    @asynccontextmanager
    async def worker(self, *hosts: str) -> AsyncIterator[None]:
        """Workers for `hosts`, once their sockets are there."""
        tasks = [
            asyncio.create_task(run(self.config(host), self.allocator, self.inboxes[host], unwatched()))
            for host in hosts
        ]
        try:
            for host, task in zip(hosts, tasks, strict=True):
                await until(lambda host=host, task=task: task.done() or self.config(host).socket.exists())
                if task.done():
                    task.result()
            yield
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task

    async def call(self, host: str, verb: str, pod: str, owner: str = "web-0") -> tuple[int, Any]:
        """Exit status and printed object of one CNI call, tried again while it says 11."""
        env = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": pod,
            "CNI_NETNS": self.path(pod) if verb == "ADD" else "",
            "CNI_IFNAME": "eth0",
            "CNI_ARGS": f"K8S_POD_NAMESPACE=shop;K8S_POD_NAME={owner}",
        }
        conf = {"cniVersion": "1.1.0", "name": "pods", "type": "moorage", "network": "prod"}
        async with asyncio.timeout(20):
            while True:
                reader, writer = await asyncio.open_unix_connection(str(self.config(host).socket))
                writer.write(wire.encode_call(env, json.dumps(conf).encode()))
                size = wire.body_length(await reader.readexactly(wire.HEADER_BYTES))
                status, stdout = wire.decode_answer(await reader.readexactly(size))
                writer.close()
                answer = json.loads(stdout) if stdout else None
                if status == 0 or answer["code"] != 11:
                    return status, answer
                await asyncio.sleep(0.02)

    async def endpoints(self, host: str) -> set[str]:
        """The host's ends of all endpoints there."""

        def names() -> set[str]:
            with Netns(self.path(host)) as netns, inside(netns) as links:
                return {link.name for link in links.all() if link.kind == "veth" and link.name != "eth1"}

        return await asyncio.to_thread(names)

    async def pings(self, pod: str, address: str) -> bool:
        """Whether the pod reaches the address within 2 s."""
        program = ["nsenter", f"--net={self.path(pod)}", "ping", "-n", "-c", "1", "-W", "2", address]
        ping = await asyncio.create_subprocess_exec(*program, stdout=asyncio.subprocess.DEVNULL)
        return await ping.wait() == 0
