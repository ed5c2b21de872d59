"""A RabbitMQ and a MariaDB of one state folder, started side by side and stopped together."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from compose.services.folder import filesystem, locked
from compose.services.identity import ensure_identity
from compose.services.mariadb import MariaDB
from compose.services.programs import find_programs
from compose.services.rabbitmq import RabbitMQ


@dataclass(frozen=True)
class LocalServices:
    """Two servers that run, and the way in as their administrator resp. database user."""

    amqp_url: str = field(repr=False)
    management_url: str = field(repr=False)
    database_url: str = field(repr=False)
    state_dir: Path
    rabbitmq: RabbitMQ = field(repr=False)
    mariadb: MariaDB = field(repr=False)

    def create_database(self, name: str) -> str:
        """Make a further, empty database; its URL. Raises `invalid_request` for a bad or used name."""
        return self.mariadb.create_database(name)

    @property
    def pids(self) -> list[int]:
        """The server processes that run now."""
        return [*self.rabbitmq.pids, *self.mariadb.pids]


def _silently(_: str) -> None:
    """Tell nobody."""


@contextmanager
def local_services(
    state_dir: Path, *, progress: Callable[[str], None] = _silently, mariadb_options: Sequence[str] = ()
) -> Iterator[LocalServices]:
    """Run both servers of `state_dir` while the context lasts; the same folder finds its data again.

    `progress` gets one line for each phase that took time; `mariadb_options` are options of mariadbd, such
    as `--innodb-buffer-pool-size=1G`, and win over our own small ones. On the way out, also by an exception
    or Ctrl-C (`KeyboardInterrupt`), both are stopped and waited for. No signal handler is installed: a
    caller that wants to end tidily on SIGTERM turns it into an exception. When this process dies without a
    chance to clean up, the kernel sends the servers SIGTERM.

    Raises `ProgramsMissing`, `StateFolderUnusable` or `NotStarted`.
    """
    state_dir = state_dir.absolute()
    programs = find_programs()
    with ExitStack() as undo:
        lock = undo.enter_context(locked(state_dir))
        if filesystem(state_dir) in ("tmpfs", "ramfs"):
            progress(f"warning: {state_dir} is in memory: nothing said about durability holds there")
        broker_dir, database_dir = state_dir / "rabbitmq", state_dir / "mariadb"
        data_exists = any((folder / "data").exists() for folder in (broker_dir, database_dir))
        identity = ensure_identity(state_dir, data_exists=data_exists)
        for folder in (broker_dir, database_dir):
            folder.mkdir(mode=0o700, exist_ok=True)
        rabbitmq = RabbitMQ(broker_dir, programs, identity, progress=progress, keep=(lock,))
        mariadb = MariaDB(
            database_dir, programs, identity, progress=progress, keep=(lock,), extra_options=mariadb_options
        )
        undo.callback(_stop, rabbitmq, mariadb, progress)
        rabbitmq.launch()  # the slower one first: it boots while the database is made
        mariadb.start()
        rabbitmq.wait_until_ready()
        yield LocalServices(
            amqp_url=rabbitmq.amqp_url,
            management_url=rabbitmq.management_url,
            database_url=mariadb.url(),
            state_dir=state_dir,
            rabbitmq=rabbitmq,
            mariadb=mariadb,
        )


def _stop(rabbitmq: RabbitMQ, mariadb: MariaDB, progress: Callable[[str], None]) -> None:
    """Stop both side by side; one that fails to stop does not spare the other."""
    started, running = time.monotonic(), bool(rabbitmq.pids or mariadb.pids)
    with ExitStack() as undo:
        undo.callback(rabbitmq.stop)
        undo.callback(mariadb.stop)
        rabbitmq.terminate()
        mariadb.terminate()
    if running:
        progress(f"RabbitMQ and MariaDB: stopped in {time.monotonic() - started:.1f} s")
