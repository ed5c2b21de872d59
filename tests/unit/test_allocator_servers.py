"""Which of several database servers a connection leads to, and what is told where none lets us in."""

import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pymysql
import pytest
import structlog
from sqlalchemy.exc import OperationalError

from allocator import servers as servers_module
from allocator.database import Database, is_away, open_engine
from allocator.servers import Servers
from broker.login import Login, Trust
from broker.outcome import Unavailable
from schemas.errors import Code, ServiceError

SECRET = "hunter2"
URL = f"mysql+pymysql://allocator:{SECRET}@a:3306,b:3307,c/moorage"
AWAY = pymysql.OperationalError(2003, "Can't connect to MySQL server")
REFUSED = pymysql.OperationalError(
    1045, "Access denied for user 'allocator'@'localhost' (using password: YES)"
)


class FakeConnection:
    """A connection to one server, which may be read-only or a member of a Galera cluster."""

    def __init__(self, place: Mapping[str, Any], *, read_only: bool, galera: bool, broken: bool) -> None:
        self.place, self.closed, self.asked = place, False, list[str]()
        self._answers = {"SELECT @@global.read_only": (int(read_only),)}
        self._answers["SHOW VARIABLES LIKE 'wsrep_on'"] = ("wsrep_on", "ON" if galera else "OFF")
        self._broken = broken

    def cursor(self) -> "FakeConnection":
        return self

    def __enter__(self) -> "FakeConnection":
        return self

    def __exit__(self, *_: object) -> None: ...

    def execute(self, query: str) -> None:
        if self._broken:
            raise pymysql.OperationalError(1047, "WSREP has not yet prepared node for application use")
        self.asked.append(query)

    def fetchone(self) -> Sequence[Any] | None:
        return self._answers.get(self.asked[-1])

    server_status = 0

    def close(self) -> None:
        self.closed = True


class Network:
    """The servers that a test has, by host; `tried` is where somebody knocked."""

    def __init__(self) -> None:
        self.failing: dict[str, Exception] = {}
        self.read_only, self.galera, self.broken = set[str](), set[str](), set[str]()
        self.tried: list[str] = []
        self.made: list[FakeConnection] = []

    def dial(self, place: dict[str, Any]) -> Any:
        host = place["host"]
        self.tried.append(host)
        if host in self.failing:
            raise self.failing[host]
        made = FakeConnection(
            place,
            read_only=host in self.read_only,
            galera=host in self.galera,
            broken=host in self.broken,
        )
        self.made.append(made)
        return made


@pytest.fixture
def network() -> Network:
    return Network()


def reached(servers: Servers, network: Network) -> str:
    """The host that a new connection leads to."""
    connection: Any = servers.connect(network.dial)
    assert not connection.closed
    return str(connection.place["host"])


def test_the_first_server_is_used_for_as_long_as_it_is_there(network: Network):
    servers = Servers(Login(URL))
    assert [reached(servers, network) for _ in range(3)] == ["a", "a", "a"]
    network.failing["a"] = AWAY
    assert reached(servers, network) == "b"
    network.failing["b"] = ConnectionResetError("reset")
    assert reached(servers, network) == "c"
    network.failing.clear()
    assert reached(servers, network) == "a"


def test_where_it_leads_and_as_whom_is_what_the_url_says(network: Network):
    network.failing = {"a": AWAY}
    url = URL.replace(SECRET, "p%40w%2C%2F%3A")
    Servers(Login(url)).connect(network.dial)
    assert network.made[0].place == {
        "host": "b",
        "port": 3307,
        "user": "allocator",
        "password": "p@w,/:",
        "database": "moorage",
    }


@pytest.mark.parametrize("what", ["read_only", "broken"])
def test_a_server_that_takes_no_writes_is_passed_over_and_closed(network: Network, what: str):
    getattr(network, what).add("a")
    assert reached(Servers(Login(URL)), network) == "b"
    assert [connection.closed for connection in network.made] == [True, False]


def test_the_only_server_is_used_as_it_is(network: Network):
    """Its own error says more, and a proxy knows better."""
    network.read_only.add("a")
    assert reached(Servers(Login(URL.replace(",b:3307,c", ""))), network) == "a"


def test_a_server_that_rejects_the_password_is_passed_over(network: Network):
    network.failing["a"] = REFUSED
    assert reached(Servers(Login(URL)), network) == "b"


@pytest.mark.parametrize("galera", [True, False])
def test_a_member_of_a_galera_cluster_shows_what_others_committed(network: Network, galera: bool):
    network.galera = {"a"} if galera else set()
    Servers(Login(URL)).connect(network.dial)
    assert any("wsrep_sync_wait = 7" in query for query in network.made[0].asked) == galera


def test_where_none_lets_us_in_the_last_error_is_raised_and_tells_of_all(network: Network):
    network.failing = {"a": REFUSED, "b": AWAY, "c": AWAY}
    with pytest.raises(pymysql.OperationalError) as caught:
        Servers(Login(URL)).connect(network.dial)
    number, said = caught.value.args
    assert number == 2003, "what it means is told by its number"
    assert "a:3306: Access denied" in said and "b:3307: Can't" in said and "c:3306: Can't" in said
    assert network.tried == ["a", "b", "c"]
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_the_error_of_an_only_server_is_raised_as_it_is(network: Network):
    network.failing["a"] = AWAY
    with pytest.raises(pymysql.OperationalError) as caught:
        Servers(Login(URL.replace(",b:3307,c", ""))).connect(network.dial)
    assert caught.value is AWAY


def test_another_server_is_told_of_once_and_with_the_reason(network: Network):
    servers = Servers(Login(URL))
    with structlog.testing.capture_logs() as logs:
        reached(servers, network)
        network.failing["a"] = AWAY
        for _ in range(3):
            reached(servers, network)
        network.failing.clear()
        for _ in range(3):
            reached(servers, network)
    assert [(log["server"], log["passed_over"]) for log in logs] == [
        ("b:3307", {"a:3306": "Can't connect to MySQL server"}),
        ("a:3306", {}),
    ]


def test_a_server_that_says_nothing_is_not_waited_for_by_every_connection(
    network: Network, monkeypatch: pytest.MonkeyPatch
):
    """It is asked last for a minute, and first again after that."""
    now = 1000.0
    monkeypatch.setattr(servers_module, "monotonic", lambda: now)
    dialled = network.dial

    def dial(place: dict[str, Any]) -> Any:
        nonlocal now
        now += 5 if place["host"] in network.failing else 0
        return dialled(place)

    network.dial = dial  # type: ignore[method-assign]
    network.failing["a"] = AWAY
    servers = Servers(Login(URL))
    assert [reached(servers, network) for _ in range(3)] == ["b", "b", "b"]
    assert network.tried == ["a", "b", "b", "b"]
    network.failing = {"b": AWAY, "c": AWAY}
    assert reached(servers, network) == "a", "if nobody else is there, it is asked at once"
    network.failing.clear()
    now += servers_module.AGAIN_S
    assert reached(servers, network) == "a"


def test_what_is_no_error_of_the_database_becomes_one(network: Network):
    """SQLAlchemy knows no other, and a request would get the blame."""
    network.failing = dict.fromkeys("abc", ConnectionResetError(104, "reset by peer"))
    with pytest.raises(pymysql.OperationalError, match="c:3306: reset by peer"):
        Servers(Login(URL)).connect(network.dial)


def test_an_address_of_ipv6_is_dialled_without_its_brackets_and_shown_with_them(network: Network):
    servers = Servers(Login(f"mysql+pymysql://u:{SECRET}@[::1]:3306,[::2]/moorage"))
    network.failing["::1"] = AWAY
    with structlog.testing.capture_logs() as logs:
        assert reached(servers, network) == "::2"
    assert logs[0]["server"] == "[::2]:3306"
    assert list(logs[0]["passed_over"]) == ["[::1]:3306"]


def test_a_password_that_was_rotated_in_its_file_is_used_for_the_next_connection(
    network: Network, tmp_path: Path
):
    file = tmp_path / "database-url"
    file.write_text(URL)
    servers = Servers(Login(file))
    servers.connect(network.dial)
    file.write_text("mysql+pymysql://allocator:rotated@z/moorage\n")
    servers.connect(network.dial)
    assert [(made.place["host"], made.place["password"]) for made in network.made] == [
        ("a", SECRET),
        ("z", "rotated"),
    ]


@pytest.mark.parametrize("authorities", [None, "system"])
def test_tls_is_demanded_where_an_authority_is_named_and_then_alone(
    network: Network, authorities: str | None
):
    Servers(Login(URL, Trust(authorities))).connect(network.dial)
    assert ("ssl" in network.made[0].place) == (authorities is not None)


@pytest.mark.parametrize("url", ["mysql://u:hunter2@a/m", "u:hunter2@a", "mysql+pymysql://u:hunter2@a:x/m"])
def test_a_url_that_cannot_be_used_is_told_without_its_password(url: str):
    with pytest.raises(ServiceError) as caught:
        open_engine(url)
    assert caught.value.code == Code.NOT_PROVISIONED
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("content", ["", "mysql+pymysql://allocator:hun", "MOORAGE_DATABASE_URL=x"])
def test_half_a_file_is_an_outage_and_no_fault_of_a_request(tmp_path: Path, content: str):
    """As anything else would be answered, or made a dead letter, with nobody to blame for it."""
    file = tmp_path / "database-url"
    file.write_text(URL)
    engine = open_engine(Login(file))
    file.write_text(content)
    with pytest.raises(Unavailable, match=str(file)) as caught:
        Database(engine).run(lambda _: None)
    assert "hun" not in "".join(traceback.format_exception(caught.value)).replace(str(file), "")


def test_an_authority_that_was_taken_away_is_an_outage_too(tmp_path: Path):
    missing = tmp_path / "ca.pem"
    engine = open_engine(Login(URL, Trust(str(missing), setting="MOORAGE_DATABASE")))
    with pytest.raises(Unavailable, match="MOORAGE_DATABASE_CA"):
        Database(engine).read(lambda _: None)


def test_what_none_of_several_servers_allowed_still_counts_as_an_outage(network: Network):
    network.failing = dict.fromkeys("abc", AWAY)
    with pytest.raises(pymysql.Error) as caught:
        Servers(Login(URL)).connect(network.dial)

    assert is_away(OperationalError("connect", {}, caught.value))
