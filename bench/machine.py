"""What a run measures on: servers of its own with their data on a disk, and the processes under test."""

import asyncio
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import uvloop
from yarl import URL

from allocator import schema
from allocator.database import open_engine
from bench.enrolling import definitions, import_nodes
from broker import provisioning, topology
from broker.management import Management
from broker.permissions import NOTHING, Permissions, user_name
from broker.topology import REQUESTS_EXCHANGE, exactly
from compose.local_console import wait_until_it_answers
from compose.services import ports
from compose.services.local import LocalServices, local_services
from compose.services.process import Child
from schemas.requests import HEARTBEAT

T = TypeVar("T")

ROOT = Path(__file__).parents[1]
BUFFER_POOL = "2G"
"""A million rows with their indexes and history fit, as they do in production."""

GRACE_S = 15
"""How long a process may take to stop, in seconds."""

_PASSWORD = "bench"  # noqa: S105  servers of our own, on loopback, for minutes; users are the same in each place
_SETTLE_S = 120
_FILES = 16_384
_TICKS = os.sysconf("SC_CLK_TCK")

Tell = Callable[[str], None]


class Size(Enum):
    """How much is done: `quick` shows that the benchmarks work and measures little."""

    QUICK = "quick"
    NORMAL = "normal"
    FULL = "full"


@dataclass(frozen=True)
class Place:
    """A virtual host with all queues, and who may use it."""

    vhost: str
    allocator: str = field(repr=False)
    operator: str = field(repr=False)


@dataclass(frozen=True)
class Machine:
    """The servers of one run."""

    services: LocalServices
    size: Size
    tell: Tell
    _filled: dict[int, str] = field(default_factory=dict, repr=False)

    def database(self, name: str) -> str:
        """The URL of a new database with our schema."""
        url = self.services.create_database(name)
        engine = open_engine(url)
        try:
            schema.upgrade(engine)
        finally:
            engine.dispose()
        return url

    def filled(self, rows: int, fill: Callable[[str, int, Tell], None]) -> str:
        """The URL of a database that `fill` brought to `rows` allocations; made once for each number.

        The server has written all of it out: it would else go on with that for most of a minute, beside what
        is measured and at the cost of whoever changes the most pages.
        """
        if rows not in self._filled:
            url = self.database(f"filled_{rows}")
            fill(url, rows, self.tell)
            self.tell("written out to the disk")
            self.services.mariadb.settle(_SETTLE_S)
            self._filled[rows] = url
        return self._filled[rows]

    def place(self, name: str) -> Place:
        """A virtual host that is provisioned like any other."""
        url = self.services.management_url
        provisioning.create_vhost(url, name)
        provisioning.provision(url, vhost=name, settle_s=0)
        allocator = provisioning.enroll_allocator(url, vhost=name, password=_PASSWORD)
        operator = provisioning.enroll_client(url, "bench", "operator", vhost=name, password=_PASSWORD)
        return Place(name, allocator.amqp_url, operator.amqp_url)

    def enroll_node(self, place: Place, name: str) -> str:
        """The broker's URL for a node."""
        url = self.services.management_url
        return provisioning.enroll_node(url, name, vhost=place.vhost, password=_PASSWORD).amqp_url

    def enroll_nodes(self, place: Place, names: Sequence[str]) -> dict[str, str]:
        """The broker's URLs for many nodes, by name."""
        import_nodes(self.services.management_url, names, vhost=place.vhost, password=_PASSWORD)
        base = URL(place.operator)
        return {name: str(base.with_user(user_name("node", name))) for name in names}

    def impersonator(self, place: Place) -> str:
        """The broker's URL for a user who may send heartbeats for any node, and nothing else."""
        user, may = "bench-nodes", Permissions(exactly([REQUESTS_EXCHANGE]), NOTHING, exactly([HEARTBEAT]))
        body = definitions([(user, may)], vhost=place.vhost, password=_PASSWORD, tags="impersonator")
        with Management(self.services.management_url) as api:
            api.post("definitions", body=body)
        return str(URL(place.operator).with_user(user))

    @contextmanager
    def allocator(self, place: Place, database_url: str) -> Iterator[Child]:
        """A real allocator process while the context lasts."""
        env = {
            "MOORAGE_AMQP_URL": place.allocator,
            "MOORAGE_DATABASE_URL": database_url,
            "MOORAGE_LOG_LEVEL": "warning",
        }
        with self._process("allocator", ["compose.cli", "allocator"], env) as child:
            yield child

    @contextmanager
    def console(self, place: Place, one_time: str) -> Iterator[str]:
        """A real console while the context lasts; gives its URL. `one_time` lets one browser in."""
        url = self.services.management_url
        enrolled = provisioning.enroll_client(url, "bench", "console", vhost=place.vhost, password=_PASSWORD)
        held = ports.reserve(1, "bench console")
        address = f"127.0.0.1:{held.ports[0]}"
        env = {
            "MOORAGE_AMQP_URL": enrolled.amqp_url,
            "MOORAGE_CONSOLE_LISTEN": address,
            "MOORAGE_CONSOLE_ONE_TIME_TOKEN": one_time,
            "MOORAGE_TOKENS_FILE": str(self.services.state_dir / "tokens.json"),
        }
        held.release()
        with self._process("console", ["compose.cli", "console"], env) as child:
            wait_until_it_answers(address, child)
            yield f"http://{address}"

    @contextmanager
    def echo(self, place: Place, network: str) -> Iterator[Child]:
        """The bare echo on the queue of `network`'s partition while the context lasts."""
        env = {"BENCH_AMQP_URL": place.allocator}
        with self._process("echo", ["bench.echo", queue_of(network)], env) as child:
            yield child

    @contextmanager
    def trivial(self, place: Place, network: str) -> Iterator[Child]:
        """Our consumer with a service that does nothing, on the same queue as `echo`."""
        env = {"BENCH_AMQP_URL": place.allocator}
        with self._process("trivial consumer", ["bench.trivial", queue_of(network)], env) as child:
            yield child

    def child(self, name: str, words: list[str], env: Mapping[str, str]) -> Child:
        """A Python process of our own, not started yet."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("MOORAGE_")}
        return Child(
            name,
            [sys.executable, "-m", *words],
            env={**inherited, "PYTHONPATH": str(ROOT), **env},
            log=self.services.state_dir / f"{name.replace(' ', '-')}.log",
        )

    @contextmanager
    def _process(self, name: str, words: list[str], env: Mapping[str, str]) -> Iterator[Child]:
        child = self.child(name, words, env)
        child.start()
        try:
            yield child
            if child.pid is None:
                raise RuntimeError(f"the {name} ended by itself: {child.tail()}")
        finally:
            child.stop(GRACE_S)


@contextmanager
def machine(size: Size, tell: Tell) -> Iterator[Machine]:
    """Servers while the context lasts, their data on a disk (never in memory); nothing is left of them."""
    _allow_files()
    folder = Path(tempfile.mkdtemp(prefix="moorage-bench.", dir="/var/tmp"))
    try:
        options = [f"--innodb-buffer-pool-size={BUFFER_POOL}"]
        with local_services(folder, progress=tell, mariadb_options=options) as services:
            yield Machine(services, size, tell)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _allow_files() -> None:
    """Let servers and clients have `_FILES` files and sockets open, as far as this machine allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def queue_of(network: str) -> str:
    """The queue that the requests of `network` go through."""
    return topology.allocator_queue(topology.partition(network))


def on_uvloop(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` on the event loop that our processes use."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def pid_of(child: Child) -> int:
    """The process id of a child that runs."""
    if child.pid is None:
        raise RuntimeError(f"the {child.name} ended by itself: {child.tail()}")
    return child.pid


def cpu_s(*pids: int) -> float:
    """The processor time that these processes have used so far, in seconds (proc(5), utime and stime)."""
    return sum(_ticks(pid) for pid in pids) / _TICKS


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def memory_mb(pid: int, field_name: str) -> float:
    """`VmRSS` or `VmHWM` of a process, in MB (proc(5))."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field_name}:"):
            return int(line.split()[1]) / 1024
    raise LookupError(f"process {pid} has no {field_name}")
