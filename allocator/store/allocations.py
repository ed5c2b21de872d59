"""Allocations read: the rows that a batch may need, in one statement, and what people ask to see."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, Select, bindparam, func, or_, select

from allocator import tables as t
from allocator.model import Allocation
from allocator.store.reads import Found, Reads
from schemas.address import AddressList
from schemas.fields import IPAddress
from schemas.pool import AddressRange, Policy

_SPANS_AT_ONCE = 200

HELD = ("attached", "waiting", "quarantined")
"""The states in which somebody holds an address: all but free."""

_COLUMNS = tuple(t.allocations.c[field.name] for field in fields(Allocation))


def rows() -> Select[Any]:
    """Allocations, their columns in the order of the model's fields."""
    return select(*_COLUMNS)


def read(found: Iterable[Row[Any]]) -> list[Allocation]:
    """The allocations of a `rows` statement."""
    return [Allocation(*row) for row in found]  # type: ignore[call-arg]  # as many as `rows` selects


@dataclass(slots=True)
class Sought:
    """Which rows of one network a batch may need."""

    owners: set[str] = field(default_factory=set)
    addresses: set[IPAddress] = field(default_factory=set)
    containers: set[tuple[str, str]] = field(default_factory=set)
    """Node and container_id."""


_NAMES = [field.name for field in fields(Allocation)]
_ADDRESS, _SINCE, _ATTACHMENT = map(_NAMES.index, ("address", "since", "attachment_id"))
_ITEMS = ", ".join(f"HEX({name})" if name in ("address", "attachment_id") else name for name in _NAMES)
_ROWS = f"SELECT JSON_ARRAY({_ITEMS}) FROM allocations WHERE "  # noqa: S608  no input
_OF_ATTACHMENTS = _ROWS + "attachment_id IN %s"
_OF_OWNERS = _ROWS + "network_id = %s AND owner IN %s"
_AT = _ROWS + "network_id = %s AND address IN %s"
_OF_CONTAINERS = _ROWS + "(node, container_id) IN %s AND network_id = %s"


def known(
    reads: Reads, attachments: Collection[UUID], sought: Mapping[int, Sought]
) -> list[Found[Allocation]]:
    """All that is sought, by network, and what these attachments have in any network. Rows may repeat."""
    found: list[Found[Allocation]] = []

    def add(statement: str, *values: Any) -> None:
        found.append(reads.add(statement, values, _made))

    if attachments:
        add(_OF_ATTACHMENTS, [attachment.bytes for attachment in attachments])
    for network_id, wanted in sought.items():
        if wanted.owners:
            add(_OF_OWNERS, network_id, list(wanted.owners))
        if wanted.addresses:
            add(_AT, network_id, [t.stored(address) for address in wanted.addresses])
        if wanted.containers:
            add(_OF_CONTAINERS, list(wanted.containers), network_id)
    return found


def _made(*items: Any) -> Allocation:
    values = list(items)
    values[_ADDRESS] = t.address_of(bytes.fromhex(values[_ADDRESS]))
    values[_SINCE] = datetime.fromisoformat(values[_SINCE])
    if values[_ATTACHMENT] is not None:
        values[_ATTACHMENT] = UUID(values[_ATTACHMENT])
    return Allocation(*values)


def on_node(connection: Connection, node: str) -> list[Allocation]:
    """All that is attached on a node, in any network."""
    a = t.allocations.c
    return read(connection.execute(rows().where(a.node == node, a.state == "attached")))


def attachments_on(connection: Connection, nodes: Collection[str]) -> list[tuple[str, UUID]]:
    """Node and attachment_id of all that is attached on these nodes; dual-stack ones come twice."""
    a = t.allocations.c
    statement = select(a.node, a.attachment_id).where(a.node.in_(nodes), a.state == "attached")
    return [(row.node, row.attachment_id) for row in connection.execute(statement)]


def longest_free(connection: Connection, pool_id: int, family: int, limit: int) -> list[Allocation]:
    """The pool's rows that are free the longest: one dive into one index, however many rows there are."""
    a = t.allocations.c
    statement = rows().where(a.pool_id == pool_id, a.family == family, a.state == "free")
    return read(connection.execute(statement.order_by(a.since).limit(limit)))


def overdue(connection: Connection, pool_id: int, before: datetime, limit: int) -> list[Allocation]:
    """Rows of a pool that wait for their owner since before this moment, the longest of each family first."""
    a = t.allocations.c
    found: list[Allocation] = []
    for family in (4, 6):
        statement = rows().where(
            a.pool_id == pool_id, a.family == family, a.state == "waiting", a.since < before
        )
        found += read(connection.execute(statement.order_by(a.since).limit(limit - len(found))))
    return found


def taken(
    connection: Connection, network_id: int, first: IPAddress, last: IPAddress, limit: int
) -> list[IPAddress]:
    """The addresses from `first` to `last` that have a row, ascending, at most `limit`."""
    a = t.allocations.c
    statement = select(a.address).where(a.network_id == network_id, a.address.between(first, last))
    return list(connection.execute(statement.order_by(a.address).limit(limit)).scalars())


def macs(connection: Connection, network_id: int, wanted: Collection[str]) -> list[tuple[int, str]]:
    """Family and MAC of the rows that carry one of these MACs."""
    a = t.allocations.c
    statement = select(a.family, a.mac).where(
        a.network_id == network_id, a.family.in_((4, 6)), a.mac.in_(wanted)
    )
    return [(row.family, row.mac) for row in connection.execute(statement)]


def page(
    connection: Connection,
    network_id: int,
    query: AddressList,
    *,
    after: IPAddress | None,
    within: Sequence[AddressRange] | None,
) -> list[Allocation]:
    """One row more than the page, in address order; `within` narrows it to these spans (None: all)."""
    a = t.allocations.c
    conditions = [a.network_id == network_id]
    if after is not None:
        conditions.append(a.address > after)
    for name in ("owner", "node", "state"):
        value = getattr(query, name)
        if value is not None:
            conditions.append(a[name] == value)
    found: list[Allocation] = []
    for spans in _chunks(within):
        statement = rows().where(*conditions, *spans).order_by(a.address)
        found += read(connection.execute(statement.limit(query.limit + 1 - len(found))))
        if len(found) > query.limit:
            break
    return found


def _chunks(within: Sequence[AddressRange] | None) -> Iterator[list[ColumnElement[bool]]]:
    """Conditions that the index on the address serves, a bounded number of spans at a time, in order."""
    if within is None:
        yield []
        return
    for start in range(0, len(within), _SPANS_AT_ONCE):
        spans = within[start : start + _SPANS_AT_ONCE]
        yield [or_(*(t.allocations.c.address.between(span.first, span.last) for span in spans))]


def stretch(
    connection: Connection, network_id: int, span: AddressRange, limit: int
) -> list[tuple[IPAddress, str, Any]]:
    """Address, state and since of the rows in `span`, ascending, at most `limit`."""
    a = t.allocations.c
    statement = select(a.address, a.state, a.since).where(
        a.network_id == network_id, a.address.between(span.first, span.last)
    )
    found = connection.execute(statement.order_by(a.address).limit(limit))
    return [(row.address, row.state, row.since) for row in found]


_SHOWN = (
    select(*_COLUMNS, t.pools.c.name.label("pool"), t.pools.c.policy.label("policy"))
    .join(t.networks, t.networks.c.id == t.allocations.c.network_id)
    .join(t.pools, t.pools.c.id == t.allocations.c.pool_id)
    .where(
        t.networks.c.name == bindparam("network"),
        t.networks.c.state != "deleted",
        t.allocations.c.address == bindparam("address", type_=t.AddressType),
    )
)


def shown(connection: Connection, network: str, address: IPAddress) -> tuple[Allocation, str, Policy] | None:
    """The row of one address of a network, with its pool's name and policy, in one statement."""
    found = connection.execute(_SHOWN, {"network": network, "address": address}).one_or_none()
    if found is None:
        return None
    *columns, pool, policy = found
    return Allocation(*columns), pool, policy


def held_in(connection: Connection, network_id: int, limit: int) -> list[Allocation]:
    """Up to `limit` addresses of a network that are attached or wait for their owner, ascending."""
    a = t.allocations.c
    statement = rows().where(a.network_id == network_id, a.state.in_(("attached", "waiting")))
    return read(connection.execute(statement.order_by(a.address).limit(limit)))


def count_held(connection: Connection, network_id: int) -> dict[str, int]:
    """How many addresses of a network are in each state in which somebody holds them."""
    a = t.allocations.c
    statement = select(a.state, func.count()).where(a.network_id == network_id, a.state.in_(HELD))
    return {state: count for state, count in connection.execute(statement.group_by(a.state))}


def attached_nodes(connection: Connection, network_id: int) -> dict[str, str]:
    """The nodes with attachments in a network, and the state of each: `removed` where there is none."""
    a = t.allocations.c
    statement = (
        select(a.node, func.coalesce(t.nodes.c.state, "removed"))
        .select_from(t.allocations.outerjoin(t.nodes, t.nodes.c.name == a.node))
        .where(a.network_id == network_id, a.state == "attached")
        .distinct()
        .order_by(a.node)
    )
    return {node: state for node, state in connection.execute(statement)}


def forget_all(connection: Connection, network_id: int) -> None:
    """Remove every row of a network."""
    connection.execute(t.allocations.delete().where(t.allocations.c.network_id == network_id))


def some_held(connection: Connection, pool_id: int, family: int, limit: int) -> list[Allocation]:
    """Up to `limit` addresses of a pool that somebody holds, found without reading those that are free."""
    a = t.allocations.c
    statement = rows().where(a.pool_id == pool_id, a.family == family, a.state.in_(HELD))
    return read(connection.execute(statement.limit(limit)))


def held_within(connection: Connection, network_id: int, span: AddressRange, limit: int) -> list[Allocation]:
    """Up to `limit` addresses of `span` that somebody holds, ascending."""
    a = t.allocations.c
    statement = rows().where(
        a.network_id == network_id, a.address.between(span.first, span.last), a.state != "free"
    )
    return read(connection.execute(statement.order_by(a.address).limit(limit)))
