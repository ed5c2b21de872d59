"""The product in processes of its own, with a proxy on every way that may fail: what each row plays on."""

import os
import shutil
import sys
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from broker import provisioning
from broker.login import Login
from compose.hosts import UPLINK, Host, prefix_of, simulated_hosts
from compose.services.local import LocalServices
from compose.services.mariadb import MariaDB
from compose.services.process import Child
from compose.stack import RunningNode, Servers, Stack
from node_worker.netlink import simulated
from schemas.address import AddressList, AddressPage, AddressView
from schemas.history import HistoryList, HistoryPage, HistoryRow
from schemas.node import NodeList, NodePage
from tests.acceptance.machines import Machine, Pod, until
from tests.acceptance.runtime_calls import NO_CONTAINER
from tests.chaos.proxy import Proxy, proxy
from tests.database import patient_engine
from tests.integration.brokering import Broker, provisioned
from tests.integration.sql_proxy import SqlProxy, sql_proxy

NODES = ("node-1", "node-2")
NEWEST = {"cniVersion": "1.1.0"}
_GRACE_S = 15
_PASSWORD = "secret"
"""As `provisioned` has it."""


class Stage(Machine):
    """A machine whose every connection can be cut, slowed down or held back. `begin` starts its processes."""

    stack: Stack

    def __init__(self, services: LocalServices, engine: Engine, shim: Path, folder: Path, undo: ExitStack):
        self.services, self.engine, self.shim, self.folder, self.undo = services, engine, shim, folder, undo
        self.broker: Broker = undo.enter_context(provisioned(services.management_url, services.amqp_url))
        self.database_url = services.database_url
        self.sql: SqlProxy = undo.enter_context(sql_proxy(services.mariadb.port))
        """Between allocators and the database."""
        self.to_broker: dict[str, Proxy] = {
            name: undo.enter_context(proxy(services.rabbitmq.ports.amqp)) for name in ("allocator", *NODES)
        }
        """Between RabbitMQ and all allocators, and each node."""
        self.node_env: dict[str, dict[str, str]] = {name: {} for name in NODES}
        """What the processes of nodes find in their environment beside their settings."""
        self.pods: list[Pod] = []
        self._threads = undo.enter_context(ThreadPoolExecutor(32))

    def use(self, database: MariaDB) -> None:
        """Lead allocators, and the checks, to another server with the same accounts as its own."""
        self.sql.target = database.port
        self.sql.cut()
        self.database_url = database.url()
        self.engine = patient_engine(self.database_url)
        self.undo.callback(self.engine.dispose)

    def folder_of(self, node: str) -> Path:
        """Where a node has its journal, its socket and its log."""
        return self.folder / "nodes" / node

    def begin(self, uplink: str | None = UPLINK) -> None:
        """Start an allocator and both nodes; network prod with the pinned pool web for shop/web-*."""
        hosts = self.undo.enter_context(simulated_hosts(NODES, prefix_of(self.folder)))
        servers = Servers(self.services.management_url, self.database_url, self.services)
        allocator = self.another_allocator("allocator")
        nodes = tuple(self._start_node(host) for host in hosts)
        self.stack = Stack(self.folder, servers, Login(self.broker.operator), allocator, nodes)
        self.wait_for_nodes()
        self.network("prod", "10.77.0.0/24", uplink=uplink)
        self.pool("prod", "web", ["10.77.0.10-10.77.0.19"], ["shop/web-*"])

    @property
    def allocator(self) -> Child:
        """The first allocator."""
        return self.stack.allocator

    def another_allocator(self, name: str, database_url: str | None = None) -> Child:
        """One more allocator, started; `database_url` in place of the proxy's."""
        through_proxy = self.sql.url(self.database_url).render_as_string(hide_password=False)
        env = {
            "MOORAGE_AMQP_URL": self.to_broker["allocator"].through(self.broker.allocator),
            "MOORAGE_DATABASE_URL": database_url or through_proxy,
        }
        return self._start(name, "allocator", env, self.folder / f"{name}.log")

    def _start_node(self, host: Host) -> RunningNode:
        folder, name = self.folder_of(host.node), host.node
        folder.mkdir(parents=True, exist_ok=True)
        known: dict[str, Any] = {"vhost": self.broker.vhost, "password": _PASSWORD}
        enrolled = provisioning.enroll_node(self.services.management_url, name, **known)
        env = {
            "MOORAGE_AMQP_URL": self.to_broker[name].through(enrolled.amqp_url),
            "MOORAGE_NODE_NAME": name,
            "MOORAGE_NODE_NETNS": str(host.path),
            "MOORAGE_NODE_DIR": str(folder),
            "MOORAGE_CNI_SOCKET": str(folder / "cni.sock"),
            "MOORAGE_RECONCILE_S": "5",
        }
        log = self.folder / f"{name}.log"
        process = self._start(f"node worker {name}", "node", env | self.node_env[name], log)
        return RunningNode(name, host, folder / "cni.sock", process)

    def _start(self, name: str, word: str, env: dict[str, str], log: Path) -> Child:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("MOORAGE_")}
        child = Child(name, [sys.executable, "-m", "compose.cli", word], env={**inherited, **env}, log=log)
        self.undo.callback(child.stop, _GRACE_S)
        child.start()
        return child

    def restart(self, node: str) -> None:
        """Kill a worker, or start one that was killed; return when it serves."""
        process = self.node(node).process
        process.kill()
        process.start()
        until(lambda: code_of(self.status(node)) == 0, 60)

    def pod(self, owner: str, node: str = "node-1", network: str = "prod") -> Pod:
        """A sandbox that the checks know of."""
        self.pods.append(Pod(self, owner, node, network))
        return self.pods[-1]

    def end(self, pod: Pod) -> None:
        """Its sandbox goes, as when the runtime has deleted it."""
        simulated.remove_netns(pod.netns)
        self.pods.remove(pod)

    def adding(self, pod: Pod) -> Future[tuple[int, dict[str, Any]]]:
        """An ADD under way."""
        return self._threads.submit(pod.call, "ADD")

    def status(self, node: str, network: str = "prod") -> tuple[int, dict[str, Any]]:
        """What STATUS says on a node, as `Pod.call` gives it."""
        return self.verb("STATUS", node, {"network": network})

    def verb(self, verb: str, node: str, conf: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """A call that names no container."""
        return _NoPod(self, node).call(verb, NEWEST | conf, **NO_CONTAINER)

    def attached(self, network: str = "prod") -> list[AddressView]:
        """The addresses that pods have now, as the allocator says."""
        query = AddressList.model_validate({"network": network, "state": "attached", "limit": 500})
        return list(self.ask(query, AddressPage).addresses)

    def history(self, owner: str, network: str = "prod") -> list[HistoryRow]:
        """What happened to the addresses of an owner."""
        query = HistoryList.model_validate({"network": network, "owner": owner})
        return list(self.ask(query, HistoryPage).rows)

    def events(self, owner: str, network: str = "prod") -> list[str]:
        """The names of what happened to the addresses of an owner."""
        return [row.event for row in self.history(owner, network)]

    def was_given_once(self, pod: Pod, address: str) -> None:
        """Check that the pod has the one address it was told of, and that this is all that ever happened."""
        assert address in pod.links()
        rows = self.history(pod.owner, pod.network)
        assert [(row.event, str(row.address)) for row in rows] == [("address.attached", address)]

    def node_states(self) -> dict[str, str]:
        """The state of each node, as the allocator says."""
        return {node.node: node.state for node in self.ask(NodeList(), NodePage).nodes}

    def log_of(self, node: str) -> str:
        """What the worker of a node logged so far."""
        return (self.folder / f"{node}.log").read_text(errors="replace")


class _NoPod(Pod):
    """A caller of verbs that name no container; it has no sandbox."""

    def __init__(self, stage: Stage, node: str) -> None:
        self.owner, self.node, self.network = "none/none", stage.node(node), "prod"
        self.shim, self.netns, self.container_id = stage.shim, "none", uuid.uuid4().hex


def address_of(answer: dict[str, Any]) -> str:
    """The address of an ADD's result."""
    return str(answer["ips"][0]["address"]).split("/")[0]


def code_of(answered: tuple[int, dict[str, Any]]) -> int:
    """The code of a call's error; 0 for a success."""
    status, answer = answered
    return int(answer["code"]) if status else 0


@contextmanager
def stage_of(
    services: LocalServices, engine: Engine, shim: Path, folder: Path, nodes: Sequence[str] = NODES
) -> Iterator[Stage]:
    """A stage that has not begun; afterwards nothing of it is left but its folder's logs."""
    with ExitStack() as undo:
        stage = Stage(services, engine, shim, folder, undo)
        yield stage
    for node in nodes:
        shutil.rmtree(folder / "nodes" / node, ignore_errors=True)
