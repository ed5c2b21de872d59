"""The SQL schema as SQLAlchemy Core tables. Every constraint has a name that means something."""

import json
from ipaddress import IPv4Address, IPv6Address
from typing import Any
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.dialects.mysql import BINARY, DATETIME, MEDIUMTEXT, VARCHAR
from sqlalchemy.engine import Dialect

from schemas.fields import IPAddress

_V4_PREFIX = b"\x00" * 10 + b"\xff\xff"


def stored(address: IPAddress) -> bytes:
    """An address as 16 bytes, IPv4 as `::ffff:a.b.c.d`; the order of these is the order of the database."""
    return address.packed if isinstance(address, IPv6Address) else _V4_PREFIX + address.packed


def address_of(raw: bytes) -> IPAddress:
    """The address in 16 bytes of the database."""
    return IPv4Address(raw[12:]) if raw.startswith(_V4_PREFIX) else IPv6Address(raw)


class AddressType(TypeDecorator[IPAddress]):
    """An address as 16 bytes, IPv4 as `::ffff:a.b.c.d`, so that both families order and index alike.

    BINARY(16) pads shorter values with zeros in silence, hence one place that converts.
    """

    impl = BINARY(16)
    cache_ok = True

    def process_bind_param(self, value: IPAddress | None, dialect: Dialect) -> bytes | None:  # noqa: ARG002
        """To 16 bytes."""
        return None if value is None else stored(value)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> IPAddress | None:  # noqa: ARG002
        """From 16 bytes."""
        return None if value is None else address_of(bytes(value))


class UuidType(TypeDecorator[UUID]):
    """A UUID as 16 bytes."""

    impl = BINARY(16)
    cache_ok = True

    def process_bind_param(self, value: UUID | None, dialect: Dialect) -> bytes | None:  # noqa: ARG002
        """To 16 bytes."""
        return None if value is None else value.bytes

    def process_result_value(self, value: Any | None, dialect: Dialect) -> UUID | None:  # noqa: ARG002
        """From 16 bytes."""
        return None if value is None else UUID(bytes=bytes(value))


class JsonTextType(TypeDecorator[Any]):
    """JSON kept as text. MySQL's own JSON makes doubles of integers over 64 bits, which IPv6 totals are."""

    impl = MEDIUMTEXT
    cache_ok = True

    def process_bind_param(self, value: Any | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """To text."""
        return None if value is None else json.dumps(value)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> Any | None:  # noqa: ARG002
        """From text."""
        return None if value is None else json.loads(value)


def name_type(length: int) -> VARCHAR:
    """A name: compared byte by byte, so that no collation makes two names one."""
    return VARCHAR(length, charset="ascii", collation="ascii_bin")


def _network_ref(constraint: str) -> Column[int]:
    return Column("network_id", BigInteger, ForeignKey("networks.id", name=constraint), nullable=False)


OWNER = name_type(320)
NAME = name_type(63)
NODE = name_type(200)
IFNAME = VARCHAR(15, charset="utf8mb4", collation="utf8mb4_bin")
"""The kernel takes any bytes for an interface name."""
TIME = DATETIME(fsp=6)
_ENGINE: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4"}

metadata = MetaData()

epochs = Table(
    "epochs",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("epoch", BigInteger, nullable=False),
    Column("paused", SmallInteger, nullable=False, server_default="0"),
    **_ENGINE,
)

networks = Table(
    "networks",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("name", NAME, nullable=False),
    Column("state", name_type(16), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("relayed_seq", BigInteger, nullable=False),
    Column("definition", JSON, nullable=False),
    Column("since", TIME, nullable=False),
    Column("has_tunnels", SmallInteger, nullable=False, server_default="0"),
    UniqueConstraint("name", name="uq_networks_name"),
    **_ENGINE,
)

subnets = Table(
    "subnets",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    _network_ref("fk_subnets_network"),
    Column("base", AddressType, nullable=False),
    Column("prefix", SmallInteger, nullable=False),
    Column("gateway", AddressType, nullable=True),
    UniqueConstraint("network_id", "base", name="uq_subnets_base"),
    **_ENGINE,
)

pools = Table(
    "pools",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    _network_ref("fk_pools_network"),
    Column("name", NAME, nullable=False),
    Column("policy", name_type(16), nullable=False),
    Column("owners", JSON, nullable=False),
    Column("cooldown_s", Integer, nullable=False),
    Column("retain_s", Integer, nullable=True),
    Column("allow_mac", SmallInteger, nullable=False, server_default="0"),
    Column("version", BigInteger, nullable=False, server_default="0"),
    UniqueConstraint("network_id", "name", name="uq_pools_name"),
    **_ENGINE,
)

# `cursor` is the next address that was never used; NULL once there is none left.
ranges = Table(
    "ranges",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    _network_ref("fk_ranges_network"),
    Column("pool_id", BigInteger, ForeignKey("pools.id", name="fk_ranges_pool"), nullable=False),
    Column("family", SmallInteger, nullable=False),
    Column("first", AddressType, nullable=False),
    Column("last", AddressType, nullable=False),
    Column("cursor", AddressType, nullable=True),
    Column("used", BigInteger, nullable=False),
    UniqueConstraint("network_id", "first", name="uq_ranges_first"),
    Index("ix_ranges_pool", "pool_id", "family", "first"),
    Index("ix_ranges_cursor", "pool_id", "family", "cursor"),
    **_ENGINE,
)

# `pool_id` repeats what the range says, so that a pool's longest-free row is one dive into one index.
allocations = Table(
    "allocations",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    _network_ref("fk_allocations_network"),
    Column("range_id", BigInteger, nullable=False),
    Column("family", SmallInteger, nullable=False),
    Column("address", AddressType, nullable=False),
    Column("state", name_type(16), nullable=False),
    Column("since", TIME, nullable=False),
    Column("owner", OWNER, nullable=True),
    Column("pinned_owner", OWNER, nullable=True),
    Column("ifname", IFNAME, nullable=True),
    Column("mac", name_type(17), nullable=True),
    Column("node", NODE, nullable=True),
    Column("container_id", name_type(255), nullable=True),
    Column("attachment_id", UuidType, nullable=True),
    Column("pool_id", BigInteger, ForeignKey("pools.id", name="fk_allocations_pool"), nullable=False),
    UniqueConstraint("network_id", "address", name="uq_allocations_address"),
    UniqueConstraint("network_id", "pinned_owner", "ifname", "family", name="uq_allocations_pinned_owner"),
    UniqueConstraint("attachment_id", "family", name="uq_allocations_attachment"),
    UniqueConstraint("network_id", "family", "mac", name="uq_allocations_mac"),
    Index("ix_allocations_pool", "pool_id", "family", "state", "since"),
    Index("ix_allocations_container", "node", "container_id"),
    Index("ix_allocations_owner", "network_id", "owner", "address"),
    **_ENGINE,
)

nodes = Table(
    "nodes",
    metadata,
    Column("name", NODE, primary_key=True),
    Column("session", UuidType, nullable=False),
    Column("fenced_session", UuidType, nullable=True),
    Column("state", name_type(16), nullable=False),
    Column("last_seen", TIME, nullable=False),
    Column("address", AddressType, nullable=True),
    **_ENGINE,
)

rollouts = Table(
    "rollouts",
    metadata,
    _network_ref("fk_rollouts_network"),
    Column("node", NODE, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("state", name_type(16), nullable=False),
    Column("error", JSON(none_as_null=True), nullable=True),
    PrimaryKeyConstraint("network_id", "node", name="pk_rollouts"),
    Index("ix_rollouts_node", "node", "state"),
    **_ENGINE,
)

# `deadline` set: the job is open, its answer (if any) is held back. `waiters`: the (reply_to,
# correlation_id) pairs still to be told.
requests = Table(
    "requests",
    metadata,
    Column("request_id", name_type(64), primary_key=True),
    Column("name", NAME, nullable=False),
    _network_ref("fk_requests_network"),
    Column("fingerprint", name_type(64), nullable=False),
    Column("answer", JsonTextType, nullable=True),
    Column("waiters", JSON, nullable=False),
    Column("has_waiters", SmallInteger, nullable=False),
    Column("deadline", TIME, nullable=True),
    Column("created_at", TIME, nullable=False),
    Column("keep_going", SmallInteger, nullable=False, server_default="0"),
    Index("ix_requests_network", "network_id", "created_at"),
    Index("ix_requests_deadline", "deadline"),
    Index("ix_requests_waiters", "has_waiters", "created_at"),
    **_ENGINE,
)

history = Table(
    "history",
    metadata,
    _network_ref("fk_history_network"),
    Column("seq", BigInteger, nullable=False, autoincrement=False),
    Column("at", TIME, nullable=False),
    Column("event", name_type(32), nullable=False),
    Column("pool", NAME, nullable=True),
    Column("address", AddressType, nullable=True),
    Column("owner", OWNER, nullable=True),
    Column("mac", name_type(17), nullable=True),
    Column("ifname", IFNAME, nullable=True),
    Column("node", NODE, nullable=True),
    Column("container_id", name_type(255), nullable=True),
    Column("attachment_id", UuidType, nullable=True),
    Column("user_id", name_type(255), nullable=True),
    Column("actor", VARCHAR(255), nullable=True),
    Column("details", JSON, nullable=False),
    PrimaryKeyConstraint("network_id", "seq", name="pk_history"),
    Index("ix_history_address", "network_id", "address", "seq"),
    Index("ix_history_owner", "network_id", "owner", "seq"),
    Index("ix_history_node", "network_id", "node", "seq"),
    Index("ix_history_attachment", "attachment_id"),
    Index("ix_history_at", "network_id", "at"),
    **_ENGINE,
)
