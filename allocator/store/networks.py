"""Networks, their subnets and pools: read under the row lock, created, moved on from state to state."""

from datetime import datetime

from sqlalchemy import Connection, RowMapping, insert, select, text, update

from allocator import tables as t
from allocator.model import Network, Pool
from schemas.network import NetworkDefinition


def database_time(connection: Connection) -> datetime:
    """The database's clock, the only one that counts; naive, in UTC."""
    now: datetime = connection.execute(text("SELECT UTC_TIMESTAMP(6)")).scalar_one()
    return now


def lock(connection: Connection, name: str) -> RowMapping | None:
    """The network's row, locked until the transaction ends; None where there is none."""
    statement = select(t.networks).where(t.networks.c.name == name).with_for_update()
    return connection.execute(statement).mappings().one_or_none()


def find(connection: Connection, name: str) -> RowMapping | None:
    """The network's row, not locked; None where there is none."""
    return connection.execute(select(t.networks).where(t.networks.c.name == name)).mappings().one_or_none()


def page(connection: Connection, after: str, limit: int) -> list[RowMapping]:
    """One row more than the page of networks that are not deleted, by name."""
    statement = select(t.networks).where(t.networks.c.name > after, t.networks.c.state != "deleted")
    return list(connection.execute(statement.order_by(t.networks.c.name).limit(limit + 1)).mappings())


def assemble(connection: Connection, row: RowMapping) -> Network:
    """The network of `row` with its pools."""
    pools = connection.execute(select(t.pools).where(t.pools.c.network_id == row["id"])).mappings()
    return Network(
        id=row["id"],
        name=row["name"],
        state=row["state"],
        version=row["version"],
        definition=NetworkDefinition.model_validate(row["definition"]),
        pools=tuple(read_pool(pool) for pool in pools),
    )


def read_pool(row: RowMapping) -> Pool:
    """The pool of a row of `pools`."""
    return Pool(
        id=row["id"],
        name=row["name"],
        policy=row["policy"],
        owners=tuple(row["owners"]),
        cooldown_s=row["cooldown_s"],
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
        .values(state="creating", version=version, definition=definition.model_dump(mode="json"), since=now)
    )


def set_state(connection: Connection, network_id: int, state: str, version: int, now: datetime) -> None:
    """Move the network on."""
    connection.execute(
        update(t.networks)
        .where(t.networks.c.id == network_id)
        .values(state=state, version=version, since=now)
    )


def set_seq(connection: Connection, network_id: int, seq: int) -> None:
    """Write down the last seq that was given out."""
    connection.execute(update(t.networks).where(t.networks.c.id == network_id).values(seq=seq))


def add_subnets(connection: Connection, network_id: int, definition: NetworkDefinition) -> None:
    """The subnets of `definition` as rows."""
    rows = [
        {
            "network_id": network_id,
            "base": subnet.cidr.network_address,
            "prefix": subnet.cidr.prefixlen,
            "gateway": subnet.gateway,
        }
        for subnet in definition.subnets
    ]
    connection.execute(insert(t.subnets), rows)


def clear(connection: Connection, network_id: int) -> None:
    """Remove what belongs to a network whose create failed. Its row stays: name, version and seq."""
    for table in (t.allocations, t.ranges, t.pools, t.subnets):
        connection.execute(table.delete().where(table.c.network_id == network_id))
