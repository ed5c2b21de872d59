"""Three MariaDB servers that make one Galera cluster, on loopback ports: what tests of failover run on."""

import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from broker.login import joined
from compose.services.identity import ensure_identity
from compose.services.mariadb import MariaDB
from compose.services.ports import reserve
from compose.services.programs import find_programs
from schemas.errors import Code, ServiceError

SIZE = 3
_FOUND = "--wsrep-new-cluster"
_RECOVERED = re.compile(r"Recovered position: (\S+)")
PROVIDERS = (Path("/usr/lib/galera/libgalera_smm.so"), Path("/usr/lib64/galera-4/libgalera_smm.so"))
"""Where distributions put Galera's library."""


class GaleraCluster:
    """The servers, which all have the same accounts. Each may be killed, and come back."""

    def __init__(self, servers: tuple[MariaDB, ...]) -> None:
        self.servers = servers

    @property
    def url(self) -> str:
        """All of them, in their order."""
        return joined([server.url() for server in self.servers])

    def come_back(self, server: MariaDB) -> None:
        """Start a server that was killed: the others tell it what it missed. Raises `NotStarted`.

        Its data tells how far it had come, if it is asked (mariadb.com, galera_recovery); without that it
        would want to have all from the beginning.
        """
        said = "\n".join(server.run("--wsrep-recover"))
        position = _RECOVERED.search(said)
        server.start(*([f"--wsrep-start-position={position[1]}"] if position else []))


@contextmanager
def galera_cluster(folder: Path, *, progress: Callable[[str], None]) -> Iterator[GaleraCluster]:
    """A cluster in `folder`, which must be empty, while the context lasts.

    Raises `NotStarted`, or `not_provisioned` where Galera is not installed.
    """
    provider = _provider()
    identity = ensure_identity(folder, data_exists=False)
    programs = find_programs()
    held = reserve(3 * SIZE, f"galera {identity.node}")
    rows = [held.ports[start : start + SIZE] for start in range(0, 3 * SIZE, SIZE)]
    held.release()
    peers = ",".join(f"127.0.0.1:{port}" for port in rows[0])
    with ExitStack() as undo:
        servers = []
        for number in range(SIZE):
            home = folder / f"database-{number + 1}"
            home.mkdir(mode=0o700)
            options = _options(provider, peers, number, *(row[number] for row in rows))
            server = MariaDB(home, programs, identity, progress=progress, extra_options=options)
            undo.callback(server.kill)  # nobody needs the data any more
            servers.append(server)
        first, *others = servers
        first.start(_FOUND)
        first.stop()
        for number in range(2, SIZE + 1):  # they begin with the same data, so that nothing is to be sent
            subprocess.run(
                [
                    "cp",
                    "-a",
                    "--sparse=always",
                    folder / "database-1" / "data",
                    folder / f"database-{number}",
                ],
                check=True,
            )
        first.start(_FOUND)
        for server in others:
            server.start()
        yield GaleraCluster(tuple(servers))


def _provider() -> Path:
    for provider in PROVIDERS:
        if provider.exists():
            return provider
    raise ServiceError(
        Code.NOT_PROVISIONED, "Galera is not installed: install it as root with `apt-get install galera-4`"
    )


def _options(
    provider: Path, peers: str, number: int, replication: int, catching_up: int, transfer: int
) -> list[str]:
    """What a member is told (mariadb.com, configuring Galera cluster)."""
    return [
        "--wsrep-on=ON",
        f"--wsrep-provider={provider}",
        "--wsrep-cluster-name=moorage",
        f"--wsrep-cluster-address=gcomm://{peers}",
        f"--wsrep-node-name=database-{number + 1}",
        "--wsrep-node-address=127.0.0.1",
        "--wsrep-sst-method=mariabackup",  # rsync as root cannot write what root owns
        f"--wsrep-sst-receive-address=127.0.0.1:{transfer}",
        f"--wsrep-provider-options=gmcast.listen_addr=tcp://127.0.0.1:{replication};"
        f"ist.recv_addr=127.0.0.1:{catching_up}",
        "--binlog-format=ROW",
        "--innodb-autoinc-lock-mode=2",
    ]
