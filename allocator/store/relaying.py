"""How far each network's history was relayed as events, and the rows that were not yet."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, select, type_coerce, update
from sqlalchemy.types import NullType

from allocator import tables as t

FIELDS = (
    "seq",
    "at",
    "event",
    "pool",
    "address",
    "owner",
    "mac",
    "ifname",
    "node",
    "container_id",
    "attachment_id",
    "user_id",
    "actor",
    "details",
)
"""What `unrelayed` gives of each row, in this order."""

_n, _h = t.networks.c, t.history.c
# As the driver has them: to make addresses, UUIDs and times of them, only to write text again, would double
# the cost of a row.
_STORED = {name: type_coerce(_h[name], NullType()) for name in ("address", "attachment_id", "details")}
_SHOWN = {**_STORED, "at": func.date_format(_h.at, "%Y-%m-%dT%H:%i:%s.%fZ")}
_COLUMNS = [_SHOWN.get(name, _h[name]) for name in FIELDS]

# Made once: to put them together would cost as much as to run them.
_POSITIONS = select(_n.id, _n.name, _n.relayed_seq, _n.seq).where(
    _n.id.in_(bindparam("ids", expanding=True)), _n.relayed_seq < _n.seq
)
_BEHIND = select(_n.id, _n.relayed_seq).where(_n.relayed_seq < _n.seq)
_UNRELAYED = (
    select(*_COLUMNS)
    .where(_h.network_id == bindparam("network"), _h.seq > bindparam("after"))
    .order_by(_h.seq)
    .limit(bindparam("most"))
)
_ADVANCE = (
    update(t.networks)
    .where(_n.id == bindparam("network"), _n.relayed_seq == bindparam("old"))
    .values(relayed_seq=bindparam("new"))
)


def positions(connection: Connection, network_ids: Collection[int]) -> list[Row[int, str, int, int]]:
    """Id, name, relayed_seq and seq of those of the networks that have history to relay."""
    return list(connection.execute(_POSITIONS, {"ids": list(network_ids)}))


def behind(connection: Connection) -> dict[int, int]:
    """The relayed_seq of each network that has history to relay, by id. Reads the row of every network."""
    return {network_id: relayed for network_id, relayed in connection.execute(_BEHIND)}


def unrelayed(connection: Connection, network_id: int, after: int, limit: int) -> Sequence[Sequence[Any]]:
    """The next rows of a network's history as `FIELDS`, oldest first.

    `at` is text, and what is no text or number is as the database keeps it.
    """
    return connection.execute(_UNRELAYED, {"network": network_id, "after": after, "most": limit}).all()


def advance(connection: Connection, network_id: int, old: int, new: int) -> bool:
    """Note that everything up to `new` was relayed. False where the position is not `old` any more."""
    return connection.execute(_ADVANCE, {"network": network_id, "old": old, "new": new}).rowcount == 1
