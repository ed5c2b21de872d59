"""Everything on one machine: services, the allocator and simulated nodes as processes of their own."""

import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from allocator import schema
from allocator.database import open_engine
from broker import provisioning
from broker.login import Login, Where, login
from compose.hosts import Host, prefix_of, simulated_hosts
from compose.services import ports
from compose.services.identity import write_private
from compose.services.local import LocalServices, local_services
from compose.services.process import Child
from compose.settings import Settings
from schemas.errors import Code, ServiceError

_GRACE_S = 15
_RECONCILE_S = "5"
"""A simulated node looks at its networks sooner than a real one: somebody may be watching."""
_MAX_SOCKET_BYTES = 107  # unix(7): sun_path holds 108 bytes with its final NUL
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Servers:
    """Where broker and database are: ours, or those that the settings name."""

    management_url: Where = field(repr=False)
    database_url: Where = field(repr=False)
    local: LocalServices | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    """What processes need to trust servers that the settings name."""


@dataclass(frozen=True)
class RunningNode:
    """A simulated node and its worker's process."""

    name: str
    host: Host
    socket: Path
    process: Child
    monitoring: str | None = None
    """HOST:PORT of its metrics and health, if it tells of them."""


@dataclass(frozen=True)
class Stack:
    """What runs, and how to reach it."""

    state_dir: Path
    servers: Servers
    console: Login = field(repr=False)
    """The broker, as an operator."""
    allocator: Child
    nodes: tuple[RunningNode, ...]
    allocator_monitoring: str | None = None
    """HOST:PORT of its metrics and health, if it tells of them."""

    def check(self) -> None:
        """Raise `internal`, with the end of its log, if one of our own processes has ended."""
        for process in (self.allocator, *(node.process for node in self.nodes)):
            check_runs(process)

    @property
    def env_file(self) -> Path:
        """A file to source in another shell, so that `moorage` finds this stack."""
        return self.state_dir / "env"


@contextmanager
def running_stack(
    settings: Settings, state_dir: Path, node_names: Sequence[str], progress: Progress
) -> Iterator[Stack]:
    """Run everything while the context lasts; afterwards no process, namespace or link is left.

    The state folder keeps broker and database, so the same folder goes on where it was. Raises ServiceError.
    """
    state_dir = state_dir.absolute()
    _check_paths(state_dir, node_names)
    with ExitStack() as undo:
        servers = _servers(settings, state_dir, undo, progress)
        _prepare(servers, progress)
        hosts = undo.enter_context(simulated_hosts(node_names, prefix_of(state_dir)))
        monitoring = _monitoring(1 + len(hosts), state_dir)
        allocator = _start_allocator(servers, state_dir, monitoring[0], undo)
        nodes = tuple(
            _start_node(servers, state_dir, host, address, undo)
            for host, address in zip(hosts, monitoring[1:], strict=True)
        )
        console = provisioning.enroll_client(servers.management_url, "local", "operator", rotate=True)
        operator = Login(console.amqp_url, login(servers.management_url).trust)
        stack = Stack(state_dir, servers, operator, allocator, nodes, monitoring[0])
        _write_env(stack)
        yield stack


def _check_paths(state_dir: Path, node_names: Sequence[str]) -> None:
    if os.geteuid() != 0:
        raise ServiceError(
            Code.NOT_PROVISIONED,
            "simulated nodes need network namespaces, and those need root: run this with sudo",
        )
    for name in node_names:
        if len(os.fsencode(_socket(state_dir, name))) > _MAX_SOCKET_BYTES:
            raise ServiceError(
                Code.INVALID_REQUEST,
                f"the path of a CNI socket would be longer than {_MAX_SOCKET_BYTES} bytes: "
                f"{_socket(state_dir, name)}. Choose a shorter --state-dir",
            )


def _servers(settings: Settings, state_dir: Path, undo: ExitStack, progress: Progress) -> Servers:
    management, database = settings.management, settings.database
    if management and database:
        return Servers(management, database, env=settings.trust_variables())
    if management or database:
        raise ServiceError(
            Code.INVALID_REQUEST,
            "set MOORAGE_MANAGEMENT_URL and MOORAGE_DATABASE_URL both, to use servers that exist, or neither",
        )
    local = undo.enter_context(local_services(state_dir, progress=progress))
    return Servers(local.management_url, local.database_url, local)


def _prepare(servers: Servers, progress: Progress) -> None:
    engine = open_engine(servers.database_url)
    try:
        progress(f"database schema: at revision {schema.upgrade(engine)}")
    finally:
        engine.dispose()
    provisioning.provision(servers.management_url, progress=progress)


def _monitoring(count: int, state_dir: Path) -> list[str]:
    reserved = ports.reserve(count, f"monitoring {state_dir}")
    try:
        return [f"127.0.0.1:{port}" for port in reserved.ports]
    finally:
        reserved.release()


def _start_allocator(servers: Servers, state_dir: Path, monitoring: str, undo: ExitStack) -> Child:
    enrolled = provisioning.enroll_allocator(servers.management_url, rotate=True)
    env = {
        **_as_files(
            state_dir / "allocator.d",
            amqp_url=enrolled.amqp_url,
            database_url=login(servers.database_url).url(),
        ),
        **servers.env,
        "MOORAGE_MONITORING": monitoring,
    }
    return start("allocator", ["allocator"], env, state_dir / "allocator.log", undo)


def _start_node(
    servers: Servers, state_dir: Path, host: Host, monitoring: str, undo: ExitStack
) -> RunningNode:
    folder = state_dir / "nodes" / host.node
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    socket = _socket(state_dir, host.node)
    enrolled = provisioning.enroll_node(servers.management_url, host.node, rotate=True)
    env = {
        **_as_files(folder, amqp_url=enrolled.amqp_url),
        "MOORAGE_NODE_NAME": host.node,
        "MOORAGE_NODE_NETNS": str(host.path),
        "MOORAGE_NODE_DIR": str(folder),
        "MOORAGE_CNI_SOCKET": str(socket),
        "MOORAGE_RECONCILE_S": _RECONCILE_S,
        **servers.env,
        "MOORAGE_MONITORING": monitoring,
    }
    process = start(f"node worker {host.node}", ["node"], env, folder / "worker.log", undo)
    return RunningNode(host.node, host, socket, process, monitoring)


def _as_files(folder: Path, **urls: str) -> dict[str, str]:
    """Settings that name files with these URLs, which their owner alone may read."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name, url in urls.items():
        write_private(folder / name, f"{url}\n")
    return {f"MOORAGE_{name.upper()}_FILE": str(folder / name) for name in urls}


def _socket(state_dir: Path, node: str) -> Path:
    return state_dir / "nodes" / node / "cni.sock"


def check_runs(process: Child) -> None:
    """Raise `internal`, with the end of its log, if a process of ours has ended."""
    if process.pid is None:
        said = "\n".join(f"  | {line}" for line in process.tail())
        raise ServiceError(
            Code.INTERNAL, f"the {process.name} ended by itself; the end of {process.log}:\n{said}"
        )


def start(name: str, words: list[str], env: Mapping[str, str], log: Path, undo: ExitStack) -> Child:
    """A running `moorage` process with no settings but these, that `undo` stops."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("MOORAGE_")}
    argv = [sys.executable, "-m", "compose.cli", *words]
    child = Child(name, argv, env={**inherited, **env}, log=log)
    undo.callback(child.stop, _GRACE_S)
    child.start()
    return child


def _write_env(stack: Stack) -> None:
    lines = {
        "MOORAGE_AMQP_URL": stack.console.url(),
        "MOORAGE_MANAGEMENT_URL": login(stack.servers.management_url).url(),
        **stack.servers.env,
    }
    text = "".join(f"export {key}={shlex.quote(value)}\n" for key, value in lines.items())
    stack.env_file.unlink(missing_ok=True)
    descriptor = os.open(stack.env_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
