"""Networks, their subnets and pools: read under the row lock, created, moved on from state to state."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, RowMapping, insert, select, text, update

from allocator import tables as t
from allocator.model import Network, Pool
from allocator.store.reads import Found, Reads
from allocator.store.writes import Writes
from schemas.network import NetworkDefinition, Subnet


def database_time(connection: Connection) -> datetime:
    """The database's clock, the only one that counts; naive, in UTC."""
    now: datetime = connection.execute(text("SELECT UTC_TIMESTAMP(6)")).scalar_one()
    return now


class Locked(NamedTuple):
    """What every batch needs to know of a network, and of the database, without further statements."""

    id: int
    name: str
    state: str
    seq: int
    now: datetime
    """The database's time."""
    epoch: int
    paused: bool


_LOCK = """SELECT JSON_ARRAY(id, name, state, seq, UTC_TIMESTAMP(6),
(SELECT epoch FROM epochs WHERE id = 1), (SELECT paused FROM epochs WHERE id = 1))
FROM networks WHERE name IN %s ORDER BY name FOR UPDATE"""


def lock(reads: Reads, names: Collection[str]) -> Found[Locked]:
    """These networks, at least one, locked until the transaction ends, always in one order."""
    return reads.add(_LOCK, [list(names)], _locked)


def _locked(network_id: int, name: str, state: str, seq: int, now: str, epoch: int, paused: int) -> Locked:
    return Locked(network_id, name, state, seq, datetime.fromisoformat(now), epoch, bool(paused))


def names_by_id(connection: Connection, ids: Collection[int]) -> dict[int, str]:
    """The names of these networks."""
    if not ids:
        return {}
    n = t.networks.c
    return {row.id: row.name for row in connection.execute(select(n.id, n.name).where(n.id.in_(ids)))}


def find(connection: Connection, name: str) -> RowMapping | None:
    """The network's row, not locked; None where there is none."""
    return connection.execute(select(t.networks).where(t.networks.c.name == name)).mappings().one_or_none()


def page(connection: Connection, after: str, limit: int) -> list[RowMapping]:
    """One row more than the page of networks that are not deleted, by name."""
    n = t.networks.c
    statement = select(t.networks).where(n.name > after, n.state.not_in(("deleted", "system")))
    return list(connection.execute(statement.order_by(t.networks.c.name).limit(limit + 1)).mappings())


def read(connection: Connection, ids: Collection[int]) -> list[Network]:
    """These networks with their pools."""
    statement = select(t.networks).where(t.networks.c.id.in_(ids))
    return assemble(connection, list(connection.execute(statement).mappings()))


def assemble(connection: Connection, rows: Sequence[RowMapping]) -> list[Network]:
    """The networks of `rows` with their pools."""
    pools: defaultdict[int, list[Pool]] = defaultdict(list)
    statement = select(t.pools).where(t.pools.c.network_id.in_([row["id"] for row in rows]))
    for pool in connection.execute(statement).mappings():
        pools[pool["network_id"]].append(read_pool(pool))
    return [
        Network(
            id=row["id"],
            name=row["name"],
            state=row["state"],
            version=row["version"],
            definition=NetworkDefinition.model_validate(row["definition"]),
            pools=tuple(pools[row["id"]]),
        )
        for row in rows
    ]


def read_pool(row: RowMapping) -> Pool:
    """The pool of a row of `pools`."""
    return Pool(
        id=row["id"],
        name=row["name"],
        policy=row["policy"],
        owners=tuple(row["owners"]),
        cooldown_s=row["cooldown_s"],
        retain_s=row["retain_s"],
        allow_mac=bool(row["allow_mac"]),
        version=row["version"],
    )


def add(
    connection: Connection, name: str, definition: NetworkDefinition, version: int, now: datetime
) -> tuple[int, int]:
    """A new row in state `creating`; its id and the seq its history starts from."""
    values = {
        "name": name,
        "state": "creating",
        "version": version,
        "seq": version,
        "relayed_seq": version,
        "definition": definition.model_dump(mode="json"),
        "since": now,
        "has_tunnels": int(definition.driver.type == "vxlan"),
    }
    result = connection.execute(insert(t.networks).values(**values))
    assert result.inserted_primary_key is not None  # noqa: S101  autoincrement always gives one
    return int(result.inserted_primary_key[0]), version


def revive(
    connection: Connection, network_id: int, definition: NetworkDefinition, version: int, now: datetime
) -> None:
    """Turn the tombstone of a deleted network into a new one in state `creating`."""
    connection.execute(
        update(t.networks)
        .where(t.networks.c.id == network_id)
        .values(
            state="creating",
            version=version,
            definition=definition.model_dump(mode="json"),
            since=now,
            has_tunnels=int(definition.driver.type == "vxlan"),
        )
    )


def with_tunnels(connection: Connection) -> list[tuple[str, NetworkDefinition]]:
    """Name and definition of the networks that nodes have tunnels for, by name."""
    n = t.networks.c
    statement = select(n.name, n.definition).where(n.has_tunnels == 1, n.state != "deleted").order_by(n.name)
    return [(name, NetworkDefinition.model_validate(found)) for name, found in connection.execute(statement)]


def set_state(connection: Connection, network_id: int, state: str, version: int, now: datetime) -> None:
    """Move the network on."""
    connection.execute(
        update(t.networks)
        .where(t.networks.c.id == network_id)
        .values(state=state, version=version, since=now)
    )


def redefine(connection: Connection, network_id: int, definition: NetworkDefinition, version: int) -> None:
    """Another definition of an active network, as another version of it."""
    connection.execute(
        update(t.networks)
        .where(t.networks.c.id == network_id)
        .values(version=version, definition=definition.model_dump(mode="json"))
    )


def set_seq(writes: Writes, network_id: int, seq: int) -> None:
    """Write down the last seq that was given out."""
    writes.add("UPDATE networks SET seq = %s WHERE id = %s", (seq, network_id))


def add_subnets(connection: Connection, network_id: int, subnets: Sequence[Subnet]) -> None:
    """These subnets as rows."""
    rows = [
        {
            "network_id": network_id,
            "base": subnet.cidr.network_address,
            "prefix": subnet.cidr.prefixlen,
            "gateway": subnet.gateway,
        }
        for subnet in subnets
    ]
    connection.execute(insert(t.subnets), rows)


def clear(connection: Connection, network_id: int) -> None:
    """Remove what belongs to a network whose create failed. Its row stays: name, version and seq."""
    for table in (t.allocations, t.ranges, t.pools, t.subnets):
        connection.execute(table.delete().where(table.c.network_id == network_id))
