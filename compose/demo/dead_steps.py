"""The steps of the demo about dead letters: what becomes of a message that nobody can serve."""

import asyncio
import json
import os
import subprocess
import sys
import uuid
from typing import Any

from broker.codec import encode_request
from broker.dead_letters.post import Posted, post
from broker.topology import REQUESTS_EXCHANGE, routing_key
from compose.demo.cast import NETWORK, Cast, eventually
from compose.demo.steps import SUBNET
from compose.demo.story import expect
from compose.hosts import UPLINK
from schemas.address import AddressList, AddressPage, AddressReserve
from schemas.history import HistoryList, HistoryPage
from schemas.network import NetworkCreate, NetworkList, NetworkPage, NetworkView
from schemas.pool import PoolCreate, PoolView


def unreadable_message(cast: Cast) -> None:
    """An unreadable message ends in the dead-letter queue, and the consumer goes on."""
    mark = uuid.uuid4().hex[:8]
    cast.publish_raw("0.network.create", f"this is no JSON {mark}")
    letter = eventually(lambda: _letter(cast, mark), "the dead letter")
    cast.story.tell(f"dead letter: {letter['code']}: {letter['reason']}")
    found = cast.ask(NetworkList(), NetworkPage).networks
    expect([n.network for n in found] == [NETWORK], "the allocator no longer answers as before")
    cast.ask(NetworkCreate.model_validate(_same_network()), NetworkView)
    cast.story.tell("the allocator goes on: the same network asked for again is a success")


def _same_network() -> dict[str, object]:
    driver = {"type": "bridge", "uplink": UPLINK}
    subnets = [{"cidr": SUBNET, "gateway": "10.77.0.1"}]
    return {"request_id": "demo-again", "network": NETWORK, "driver": driver, "subnets": subnets}


def letter_replayed(cast: Cast) -> None:
    """A reservation comes too early and dies; its cause is mended, and an operator replays it."""
    wanted = {"request_id": "demo-early", "network": NETWORK, "pool": "db", "owner": "shop/db-0"}
    _send_and_forget(cast, AddressReserve.model_validate(wanted))
    letter = eventually(lambda: _letter(cast, "demo-early"), "the dead letter")
    cast.story.tell(f"dead letter: {letter['code']}: {letter['reason'].partition(';')[0]}")
    cast.story.tell(f"replayed now, it would be {_foreseen(cast)}")
    pool = {"request_id": "demo-db", "network": NETWORK, "pool": "db", "policy": "pinned", "size": 2}
    cast.ask(PoolCreate.model_validate(pool), PoolView)
    cast.story.tell(f"pool db is made: replayed now, it would be {_foreseen(cast)}")
    told = _moorage_dead(cast, "replay", "--code", "pool_unknown", "--because", "the pool is there now")
    expect(told["replayed"] == 1, f"the replay says {told}")
    address = eventually(lambda: _address_of(cast, "shop/db-0"), "the reservation")
    events = cast.ask(HistoryList(network="_system", newest_first=True, limit=1), HistoryPage).rows
    expect(events[0].event == "dead.replayed", "the history does not tell of the replay")
    cast.story.tell(f"replayed: {address} waits for shop/db-0; the history tells who replayed it, and why")


def _send_and_forget(cast: Cast, request: AddressReserve) -> None:
    async def send() -> None:
        async with post(cast.stack.console) as out:
            message = encode_request(
                request,
                user_id=out.user,
                message_id=uuid.uuid4().hex,
                correlation_id=uuid.uuid4().hex,
                reply_to=None,
            )
            await out.send([Posted(REQUESTS_EXCHANGE, routing_key(request), message)])

    asyncio.run(send())


def _foreseen(cast: Cast) -> str:
    letters = _moorage_dead(cast, "replay", "--code", "pool_unknown", "--dry-run")["letters"]
    return ", ".join(letter["prospect"] for letter in letters)


def _address_of(cast: Cast, owner: str) -> str | None:
    found = cast.ask(AddressList(network=NETWORK, owner=owner), AddressPage).addresses
    return str(found[0].address) if found else None


def _letter(cast: Cast, mark: str) -> dict[str, Any] | None:
    letters = _moorage_dead(cast, "list")["letters"]
    return next((letter for letter in letters if mark in letter["body"]), None)


def _moorage_dead(cast: Cast, *command: str) -> dict[str, Any]:
    """What `moorage dead` answers, as people call it."""
    argv = [sys.executable, "-m", "compose.cli", "dead", *command, "--output", "json"]
    env = {**os.environ, "MOORAGE_AMQP_URL": cast.stack.console.url()}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)
    expect(done.returncode == 0, f"moorage dead {' '.join(command)}: {done.stderr}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


STEPS = (unreadable_message, letter_replayed)
