"""One unit of work: a transaction over a batch of requests, its locks, and what follows its commit."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from allocator.model import Allocation, Network, next_number
from allocator.store import epochs, history, networks
from schemas.errors import Code, ServiceError
from schemas.history import EventName

_RELEASED = frozenset({"address.waiting", "address.freed", "address.taken_over"})


@dataclass(frozen=True, slots=True)
class Notice:
    """A nudge for one node, sent after the commit. Its loss only delays."""

    node: str
    network: str
    version: int


class Work:
    """What the handlers of one transaction share. Nothing of it outlives a rollback.

    History rows are numbered as they are recorded and written together by `finish`.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.now: datetime = networks.database_time(connection)
        self.notices: list[Notice] = []
        self._networks: dict[str, Network] = {}
        self._seqs: dict[int, int] = {}
        self._rows: list[dict[str, Any]] = []
        self._epoch: int | None = None

    def network(self, name: str) -> Network:
        """The network, its row locked until the commit. Raises `network_unknown`."""
        found = self.find_network(name)
        if found is None or found.state == "deleted":
            raise ServiceError(
                Code.NETWORK_UNKNOWN,
                f"there is no network {name}; `moorage network list` shows those there are, "
                "`moorage network create` makes one",
                network=name,
            )
        return found

    def find_network(self, name: str) -> Network | None:
        """The network or its tombstone, its row locked until the commit; None if the name is new."""
        if name not in self._networks:
            row = networks.lock(self.connection, name)
            if row is None:
                return None
            self._seqs.setdefault(row["id"], row["seq"])
            self._networks[name] = networks.assemble(self.connection, row)
        return self._networks[name]

    def reload(self, name: str) -> Network:
        """The network again, after it or its pools changed."""
        self.forget(name)
        return self.network(name)

    def forget(self, name: str) -> None:
        """Read the network anew when it is next asked for."""
        self._networks.pop(name, None)

    def begin_history(self, network_id: int, seq: int) -> None:
        """Start the history of a network made in this transaction."""
        self._seqs[network_id] = seq

    def next_version(self, previous: int) -> int:
        """A network version that was never given out before."""
        return next_number(previous, self._current_epoch())

    def _current_epoch(self) -> int:
        if self._epoch is None:
            self._epoch = epochs.current(self.connection)
        return self._epoch

    def record(self, network_id: int, event: EventName, user_id: str, **fields: Any) -> None:
        """One history row, numbered in the order of this network."""
        seq = next_number(self._seqs[network_id], self._current_epoch())
        self._seqs[network_id] = seq
        row = {
            "network_id": network_id,
            "seq": seq,
            "at": self.now,
            "event": event,
            "user_id": user_id,
            "pool": None,
            "address": None,
            "owner": None,
            "mac": None,
            "ifname": None,
            "node": None,
            "container_id": None,
            "attachment_id": None,
            "actor": None,
            "details": {},
        }
        self._rows.append(row | fields)

    def record_address(
        self, event: EventName, row: Allocation, pool: str, user_id: str, **fields: Any
    ) -> None:
        """One history row about one address: who held or holds it, where, as what."""
        kept = {
            "address": row.address,
            "owner": row.owner,
            "mac": row.mac,
            "ifname": row.ifname,
            "node": row.node,
            "container_id": row.container_id,
            "attachment_id": row.attachment_id,
        }
        self.record(row.network_id, event, user_id, pool=pool, **(kept | fields))

    def was_released(self, attachment_id: UUID) -> bool:
        """Whether history knows the end of this attachment."""
        return any(row["event"] in _RELEASED for row in self._history_of(attachment_id))

    def replaced_by(self, attachment_id: UUID) -> tuple[UUID, ...]:
        """The attachments that this one took its addresses over from, as its history says."""
        for row in self._history_of(attachment_id):
            if row["event"] == "address.attached":
                return tuple(UUID(replaced) for replaced in row["details"].get("replaces", ()))
        return ()

    def _history_of(self, attachment_id: UUID) -> list[Mapping[str, Any]]:
        """Also what this batch recorded and `finish` has yet to write."""
        known: list[Mapping[str, Any]] = [row for row in self._rows if row["attachment_id"] == attachment_id]
        known.extend(dict(row) for row in history.of_attachment(self.connection, attachment_id))
        return known

    def finish(self) -> None:
        """Write the recorded history. The last thing before the commit."""
        history.append(self.connection, self._rows)
        for network_id in {row["network_id"] for row in self._rows}:
            networks.set_seq(self.connection, network_id, self._seqs[network_id])
