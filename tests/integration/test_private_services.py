"""Private services on the real servers: what they keep, what they leave behind, and how they fail."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pymysql
import pytest
from sqlalchemy import create_engine, make_url, text

from compose.services.errors import NotStarted, StateFolderUnusable
from compose.services.folder import locked
from compose.services.identity import ensure_identity
from compose.services.local import LocalServices, local_services
from compose.services.mariadb import MariaDB
from compose.services.ports import Reservation
from compose.services.programs import find_programs
from schemas.errors import ServiceError

pytestmark = [pytest.mark.services, pytest.mark.xdist_group("services")]

ROOT = Path(__file__).parents[2]

HOLD_A_SET = """
import signal, sys, threading
from pathlib import Path
from compose.services.local import local_services
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has it ignored in the background
with local_services(Path(sys.argv[1]), progress=lambda line: print(line, flush=True)):
    threading.Event().wait()
"""

HOLD_A_SLOW_CHILD = """
import sys, threading
from pathlib import Path
from compose.services.folder import locked
from compose.services.process import Child
folder = Path(sys.argv[1])
log = folder / "log"
script = "trap 'sleep 1; exit' TERM; echo ready; while :; do sleep 0.1; done"
with locked(folder) as lock:
    child = Child("slow", ["sh", "-c", script], env={"HOME": f"{folder}/"}, log=log, keep=(lock,))
    child.start()
    child.wait_until_ready(lambda: None if log.stat().st_size else "silent", limit_s=10)
    print("held", flush=True)
    threading.Event().wait()
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServices]:
    with local_services(tmp_path_factory.mktemp("running")) as services:
        yield services
        services.rabbitmq.kill()  # its orderly stop takes seconds and is looked at elsewhere


@pytest.fixture
def mariadb(tmp_path: Path) -> Iterator[MariaDB]:
    """A server of its own that was not started yet, in a folder whose path no socket address can hold."""
    folder = tmp_path / ("long" * 25)
    folder.mkdir()
    identity = ensure_identity(folder, data_exists=False)
    server = MariaDB(folder, find_programs(), identity, progress=lambda _: None)
    yield server
    server.stop()


def until(condition: Callable[[], bool], what: str, limit_s: float = 30) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit_s} s: {what}"
        time.sleep(0.05)


def processes_of(folder: Path) -> set[int]:
    """All processes that were given a home below `folder`: servers, epmd and their helpers."""
    found = set()
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            given = environ.read_bytes().split(b"\0")
        except OSError:
            continue
        if any(entry.startswith(b"HOME=" + os.fsencode(folder) + b"/") for entry in given):
            found.add(int(environ.parent.name))
    return found


def all_gone(folder: Path) -> Callable[[], bool]:
    return lambda: not processes_of(folder)


def insert(url: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE kept (value INT)"))
        connection.execute(text("INSERT INTO kept VALUES (7)"))
    engine.dispose()


def stored(url: str) -> list[int]:
    engine = create_engine(url)
    with engine.connect() as connection:
        values = list(connection.execute(text("SELECT value FROM kept")).scalars())
    engine.dispose()
    return values


def declare_queue(services: LocalServices, name: str) -> None:
    url = f"{services.management_url}/api/queues/%2F/{name}"
    httpx.put(url, json={"durable": True}, timeout=10).raise_for_status()


def queues(services: LocalServices) -> set[str]:
    answer = httpx.get(f"{services.management_url}/api/queues/%2F", timeout=10).raise_for_status()
    return {queue["name"] for queue in answer.json()}


def test_a_set_beside_another_stops_without_a_trace_and_finds_its_data_again(
    running: LocalServices, tmp_path: Path
) -> None:
    told: list[str] = []
    with local_services(tmp_path, progress=told.append) as first:
        assert not set(first.pids) & set(running.pids)
        assert len(first.pids) == 3  # broker, epmd, database
        assert set(first.pids) <= processes_of(tmp_path)
        insert(first.database_url)
        declare_queue(first, "kept")
        assert "kept" not in queues(running)
        used = first.amqp_url, first.management_url, first.database_url
    until(all_gone(tmp_path), "every process of the set is gone", limit_s=5)
    assert [line.partition(":")[0] for line in told] == [
        "MariaDB",
        "MariaDB",
        "RabbitMQ",
        "RabbitMQ and MariaDB",
    ]

    with local_services(tmp_path) as again:
        assert stored(again.database_url) == [7]
        assert queues(again) == {"kept"}
        assert (again.amqp_url, again.management_url, again.database_url) == used
        again.rabbitmq.kill()


def test_the_broker_killed_comes_back_on_its_ports_with_its_data(running: LocalServices) -> None:
    declare_queue(running, "survives")
    # A crash some seconds after a queue was declared may lose it. Stopped in order, RabbitMQ has it for good.
    running.rabbitmq.stop()
    running.rabbitmq.start()
    before = running.rabbitmq.pids
    running.rabbitmq.kill()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", running.rabbitmq.ports.amqp), timeout=5)

    running.rabbitmq.start()

    assert "survives" in queues(running)
    socket.create_connection(("127.0.0.1", running.rabbitmq.ports.amqp), timeout=5).close()
    assert running.rabbitmq.pids[0] != before[0]


def test_the_database_killed_comes_back_on_its_port_with_what_was_committed(running: LocalServices) -> None:
    url = running.create_database("survives")
    insert(url)
    running.mariadb.kill()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", running.mariadb.port), timeout=5)

    running.mariadb.start()

    assert stored(url) == [7]


def test_the_database_may_be_stopped_twice_and_started_by_a_thread_that_ends(running: LocalServices) -> None:
    running.mariadb.stop()
    running.mariadb.stop()
    thread = threading.Thread(target=running.mariadb.start)
    thread.start()
    thread.join()

    with pytest.raises(AssertionError):
        until(lambda: not running.mariadb.pids, "the server ends with the thread", limit_s=1)


def test_a_database_that_settles_writes_all_out_and_works_as_before(running: LocalServices) -> None:
    def told() -> tuple[int, object]:
        with create_engine(running.database_url).connect() as connection:
            dirty = connection.execute(text("SHOW STATUS LIKE 'Innodb_buffer_pool_pages_dirty'")).one()[1]
            usual = "SELECT @@innodb_max_dirty_pages_pct, @@innodb_io_capacity"
            return int(dirty), connection.execute(text(usual)).one()

    with create_engine(running.create_database("unsettled")).begin() as connection:
        connection.execute(text("CREATE TABLE t (page VARCHAR(15000)) AS SELECT 'x' AS page WHERE FALSE"))
        connection.execute(text("INSERT INTO t VALUES (:page)"), [{"page": "x" * 15_000}] * 300)
    before, settings = told()

    with pytest.raises(TimeoutError, match="changed pages after 0 s"):
        running.mariadb.settle(0)
    running.mariadb.settle(60)

    assert before > 200
    assert told()[0] < 50
    assert told()[1] == settings


def test_a_second_user_of_the_folder_is_told_who_holds_it(running: LocalServices) -> None:
    with (
        pytest.raises(StateFolderUnusable, match=f"in use by process {os.getpid()}: stop that one first"),
        local_services(running.state_dir),
    ):
        pytest.fail("two users of one folder")
    assert len(running.pids) == 3


def test_a_name_makes_one_further_database(running: LocalServices) -> None:
    url = running.create_database("isolated_1")
    insert(url)
    assert stored(url) == [7]
    with pytest.raises(ServiceError, match="exists already"):
        running.create_database("isolated_1")
    with pytest.raises(ServiceError, match="cannot be used"):
        running.create_database("isolated`; DROP DATABASE moorage; --")


def test_no_password_stands_on_a_command_line_or_in_a_file_of_others(running: LocalServices) -> None:
    passwords = [
        make_url(url).password or ""
        for url in (running.amqp_url, running.management_url, running.database_url)
    ]
    assert all(len(password) >= 32 for password in passwords)
    lines = [Path(f"/proc/{pid}/cmdline").read_text() for pid in processes_of(running.state_dir)]
    assert not [line for line in lines if any(password in line for password in passwords)]
    assert not [password for password in passwords if password in repr(running)]
    for entry in running.state_dir.iterdir():
        assert not entry.stat().st_mode & 0o077, f"{entry} is open to others"


def test_nobody_gets_in_without_a_password(running: LocalServices) -> None:
    port, management = running.mariadb.port, running.rabbitmq.ports.management
    for user in ("root", "moorage", "moorage_admin", ""):
        with pytest.raises(pymysql.err.OperationalError, match="Access denied"):
            pymysql.connect(host="127.0.0.1", port=port, user=user, password="", connect_timeout=5)
    answer = httpx.get(f"http://guest:guest@127.0.0.1:{management}/api/overview", timeout=10)
    assert answer.status_code == 401


def test_every_port_is_on_loopback(running: LocalServices) -> None:
    said = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True, timeout=10).stdout
    pids = processes_of(running.state_dir)
    listening = {line.split()[3] for line in said.splitlines() if any(f"pid={pid}," in line for pid in pids)}
    assert len(listening) >= 5  # epmd, distribution, AMQP, management, database
    assert {where.rpartition(":")[0] for where in listening} <= {"127.0.0.1", "[::1]"}


def test_a_folder_with_a_long_path_is_no_obstacle(mariadb: MariaDB, tmp_path: Path) -> None:
    mariadb.start()
    told = Path(f"/proc/{mariadb.pids[0]}/cmdline").read_text().split("\0")
    sock = Path(next(option.partition("=")[2] for option in told if option.startswith("--socket=")))
    assert sock.exists()
    assert not sock.parent.stat().st_mode & 0o077
    insert(mariadb.create_database("further"))  # made over the socket
    mariadb.stop()
    assert not sock.parent.exists()
    assert not processes_of(tmp_path)


def test_a_server_that_starts_leaves_the_temporary_tables_of_others_alone(
    running: LocalServices, mariadb: MariaDB
) -> None:
    """MariaDB clears its folder of temporary tables when it starts, whoever's they are."""
    engine = create_engine(running.database_url)
    with engine.connect() as connection:
        connection.execute(text("CREATE TEMPORARY TABLE passing (value INT) ENGINE = Aria"))
        mariadb.start()
        connection.execute(text("DROP TEMPORARY TABLE passing"))
    engine.dispose()


def test_a_port_taken_in_the_last_moment_is_replaced(
    mariadb: MariaDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    thieves: list[socket.socket] = []
    release = Reservation.release

    def release_and_steal(reservation: Reservation) -> None:
        release(reservation)
        if not thieves:
            thieves.append(socket.create_server(("127.0.0.1", reservation.ports[0])))

    monkeypatch.setattr(Reservation, "release", release_and_steal)
    mariadb.start()

    with thieves[0]:
        assert mariadb.port != thieves[0].getsockname()[1]
        insert(mariadb.url())


def test_an_early_exit_is_told_with_the_end_of_the_log(mariadb: MariaDB, tmp_path: Path) -> None:
    (next(tmp_path.iterdir()) / "data").mkdir()  # without MariaDB's own tables
    with pytest.raises(NotStarted, match="MariaDB ended early with exit status 1") as caught:
        mariadb.start()
    assert "mysql.plugin" in str(caught.value) or "privilege tables" in str(caught.value)
    assert "mariadb.log" in str(caught.value)
    assert not processes_of(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "SIGKILL"])
def test_the_servers_end_with_the_process_that_started_them(number: signal.Signals, tmp_path: Path) -> None:
    """At the worst moment: one server serves, the other is still booting."""
    command = [sys.executable, "-c", HOLD_A_SET, str(tmp_path)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, process_group=0
    ) as holder:
        assert holder.stdout
        for line in holder.stdout:
            if line.startswith("MariaDB: ready"):
                break
        assert len(processes_of(tmp_path)) >= 3
        os.killpg(holder.pid, number)
        holder.wait(timeout=30)
    limit_s = 1 if number == signal.SIGINT else 30  # it waited for them, or the kernel told them only now
    until(all_gone(tmp_path), "every process of the set is gone", limit_s)


def test_a_folder_whose_user_was_killed_is_waited_for_and_used_again(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD_A_SLOW_CHILD, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        holder.kill()
        holder.wait(timeout=10)
    assert processes_of(tmp_path), "the child is still stopping"

    with locked(tmp_path):
        assert not processes_of(tmp_path)
