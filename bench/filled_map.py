"""A /16 of which most addresses are held, here and there, as it looks after pods came and went for long."""

import random
from datetime import timedelta
from ipaddress import IPv4Network
from uuid import UUID

from sqlalchemy import insert, select, update

from allocator import tables as t
from allocator.database import Database, open_engine
from allocator.model import derived_mac
from allocator.service import Allocator
from allocator.store import networks
from bench.filled import known
from bench.machine import Tell
from bench.pods import new_network, new_pool
from broker.outcome import Deferred, Delivery, Reply

NETWORK = "map"
WITHIN = IPv4Network("10.20.0.0/16")
POOL = "web"
_POOL_SPAN = "10.20.64.0-10.20.127.255"
_CHUNK = 5_000
_STATEMENT_S = 600
_NODES = 500


def fill(url: str, rows: int, tell: Tell) -> None:
    """Bring an empty database to a network with a pool and `rows` attached addresses, spread at random."""
    engine = open_engine(url, statement_s=_STATEMENT_S)
    try:
        allocator = Allocator(Database(engine), lambda notices, touched=(), answered=False: None)
        for request in (new_network(NETWORK, str(WITHIN)), new_pool(NETWORK, POOL, _POOL_SPAN)):
            (outcome,) = allocator.apply([Delivery(request, "operator.bench", None, None, None)])
            assert isinstance(outcome, Reply | Deferred), outcome
        tell(f"{rows:,} addresses of {WITHIN}")
        dice = random.Random(rows)
        with engine.connect() as connection:
            ranges = connection.execute(select(t.ranges)).mappings().all()
            now = networks.database_time(connection)
        addresses = [WITHIN[1 + at] for at in dice.sample(range(WITHIN.num_addresses - 2), rows)]
        used = dict.fromkeys((found["id"] for found in ranges), 0)
        made = []
        for number, address in enumerate(addresses):
            part = next(found for found in ranges if found["first"] <= address <= found["last"])
            used[part["id"]] += 1
            made.append(
                {
                    "network_id": part["network_id"],
                    "range_id": part["id"],
                    "pool_id": part["pool_id"],
                    "family": 4,
                    "address": address,
                    "state": "attached",
                    "since": now - timedelta(seconds=dice.random() * 86_400),
                    "owner": f"bench/pod-{number}",
                    "pinned_owner": None,
                    "ifname": "eth0",
                    "mac": derived_mac(address),
                    "node": f"node-{dice.randrange(_NODES)}",
                    "container_id": f"{dice.getrandbits(256):064x}",
                    "attachment_id": UUID(int=dice.getrandbits(128), version=4),
                }
            )
        for start in range(0, rows, _CHUNK):
            with engine.begin() as connection:
                chunk = made[start : start + _CHUNK]
                connection.execute(insert(t.allocations), [known(t.allocations, row) for row in chunk])
        with engine.begin() as connection:
            for range_id, count in used.items():
                moved = update(t.ranges).where(t.ranges.c.id == range_id)
                connection.execute(moved.values(used=count, cursor=None))
    finally:
        engine.dispose()
