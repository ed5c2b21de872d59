"""What is in the database, read without the allocator's own code, and compared with the book."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import IPv6Address
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, text

from allocator import tables
from schemas.fields import IPAddress
from tests.promised.book import Book
from tests.promised.chronicle import Chronicle, told
from tests.promised.state import Net

EPOCH = datetime(1970, 1, 1)
Dump = dict[str, list[dict[str, Any]]]


def address_of(raw: bytes | None) -> IPAddress | None:
    if raw is None:
        return None
    whole = IPv6Address(raw)
    return whole.ipv4_mapped or whole


def uuid_of(raw: bytes | None) -> UUID | None:
    return None if raw is None else UUID(bytes=raw)


def rows_of(connection: Connection, query: str, **values: Any) -> list[dict[str, Any]]:
    """The rows of a query, addresses and ids read from their bytes."""
    found = []
    for row in connection.execute(text(query), values).mappings():
        readers = {"attachment_id": uuid_of, "session": uuid_of, "fenced_session": uuid_of}
        readers |= dict.fromkeys(("address", "first", "last", "cursor"), address_of)
        found.append({name: readers.get(name, lambda same: same)(value) for name, value in row.items()})
    return found


def dump(engine: Engine) -> Dump:
    """All rows of all tables."""
    with engine.connect() as connection:
        return {
            table.name: [dict(row) for row in connection.execute(table.select()).mappings()]
            for table in tables.metadata.sorted_tables
        }


def load(engine: Engine, rows: Dump) -> None:
    """Make the tables hold these rows and no others."""
    with engine.begin() as connection:
        connection.execute(text("SET foreign_key_checks = 0"))
        for table in tables.metadata.sorted_tables:
            connection.execute(table.delete())
            if rows[table.name]:
                connection.execute(table.insert(), rows[table.name])
        connection.execute(text("SET foreign_key_checks = 1"))


@dataclass
class Reader:
    """Reads what is new and compares all."""

    engine: Engine
    chronicles: dict[str, Chronicle] = field(default_factory=dict)
    highest: dict[str, int] = field(default_factory=dict)
    """The highest seq that was ever seen, also before a restore."""

    def compare(self, book: Book) -> None:
        with self.engine.connect() as connection:
            networks = {row["id"]: row for row in rows_of(connection, "SELECT id, name, seq FROM networks")}
            names = {number: row["name"] for number, row in networks.items()}
            self._compare_rows(connection, book, names)
            self._compare_history(connection, book, networks)
            self._compare_ranges(connection, book, names)
            self._compare_nodes(connection, book)

    def skip(self) -> None:
        """Take history as it is by now."""
        with self.engine.connect() as connection:
            for row in rows_of(connection, "SELECT name, seq FROM networks"):
                self.chronicles.setdefault(row["name"], Chronicle()).seq = row["seq"]
                self.highest[row["name"]] = max(row["seq"], self.highest.get(row["name"], 0))

    def _compare_rows(self, connection: Connection, book: Book, names: Mapping[int, str]) -> None:
        fields = ("state", "since", "owner", "pinned_owner", "ifname", "mac", "node", "container_id")
        found = {
            (names[row["network_id"]], row["address"]): (*(row[f] for f in fields), row["attachment_id"])
            for row in rows_of(connection, "SELECT * FROM allocations")
        }
        known = {(net.name, row.address): told(row) for net, row in book.rows()}
        differing = {key: (found.get(key), known.get(key)) for key in found.keys() | known.keys()}
        assert {key: pair for key, pair in differing.items() if pair[0] != pair[1]} == {}

    def _compare_history(self, connection: Connection, book: Book, networks: Mapping[int, Any]) -> None:
        """One row for every change, numbered without end, from which follows who has what."""
        fields = ("event", "address", "owner", "node", "attachment_id", "user_id")
        new: list[str] = []
        for number, row in networks.items():
            name = row["name"]
            chronicle = self.chronicles.setdefault(name, Chronicle())
            query = "SELECT * FROM history WHERE network_id = :network AND seq > :seq ORDER BY seq"
            entries = rows_of(connection, query, network=number, seq=chronicle.seq)
            new += [str((name, *(entry[f] for f in fields))) for entry in entries]
            assert all(entry["seq"] > self.highest[name] for entry in entries)
            chronicle.read(entries)
            assert row["seq"] == chronicle.seq
            self.highest[name] = max(self.highest[name], chronicle.seq)
            if name in book.networks:
                chronicle.check(book.networks[name])
        found, expected = Counter(new), Counter(map(str, book.events))
        assert (found - expected, expected - found) == (Counter(), Counter())
        book.events = []

    def _compare_ranges(self, connection: Connection, book: Book, names: Mapping[int, str]) -> None:
        parts = rows_of(
            connection,
            "SELECT r.*, p.name AS pool, (SELECT COUNT(*) FROM allocations a WHERE a.range_id = r.id AND "
            "a.pool_id = r.pool_id AND a.network_id = r.network_id AND a.state <> 'free') AS held, "
            "(SELECT COUNT(*) FROM allocations a WHERE a.range_id = r.id AND a.pool_id = r.pool_id AND "
            "a.network_id = r.network_id AND a.address BETWEEN r.first AND r.last) AS here "
            "FROM ranges r JOIN pools p ON p.id = r.pool_id",
        )
        assert all(part["used"] == part["held"] for part in parts)
        assert sum(part["here"] for part in parts) == len(book.rows())
        for net in book.networks.values():
            self._compare_cut(net, [part for part in parts if names[part["network_id"]] == net.name])

    def _compare_cut(self, net: Net, parts: Iterable[Mapping[str, Any]]) -> None:
        """Every address lies in one range, that of its pool; whatever lies below a cursor was used."""
        cut: dict[IPAddress, str] = {}
        for part in parts:
            for number in range(int(part["first"]), int(part["last"]) + 1):
                address = type(part["first"])(number)
                assert address not in cut
                cut[address] = part["pool"]
                below = part["cursor"] is None or address < part["cursor"]
                assert address in net.rows if below else address not in net.picked, (address, part)
        assert cut == net.where

    def _compare_nodes(self, connection: Connection, book: Book) -> None:
        found = {
            row["name"]: (row["session"], row["fenced_session"], row["state"])
            for row in rows_of(connection, "SELECT name, session, fenced_session, state FROM nodes")
        }
        assert found == {name: (node.session, node.fenced, node.state) for name, node in book.nodes.items()}
