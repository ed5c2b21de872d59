"""Takes a snapshot of everything that has to agree."""

import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection

from allocator.database import open_engine
from bench.soak import stored
from bench.soak.agreement import Pod, Record, Snapshot
from bench.soak.pods import Pods
from bench.soak.watcher import look_at
from bench.soak.world import Node, World
from broker.management import Management
from node_worker import attachments
from node_worker.attachments import Attachment
from node_worker.netlink import veth
from node_worker.netlink.namespace import Netns
from node_worker.plan import NETWORK_LINKS
from schemas.history import Events

T = TypeVar("T")

_OURS = "mo"
"""What the names of our links begin with."""


def take(world: World, pods: Pods) -> Snapshot:
    """Everything as it is now. Raises where a server is not there, or a journal is being written."""
    journals = {name: _journal(node) for name, node in world.nodes.items()}
    links = {name: _links(node) for name, node in world.nodes.items()}
    existing = pods.existing
    database, unanswered = from_database(world, lambda c: (stored.attached(c), stored.unanswered(c)))
    return Snapshot(
        pods=tuple(
            Pod(one.owner, one.network, one.node, one.container_id, one.told) for one in existing if one.told
        ),
        looks={one.container_id: look_at(one) for one in existing},
        host_links={
            name: frozenset(link for link in found if _is_endpoint(link)) for name, found in links.items()
        },
        bridges={
            name: frozenset(link for link in found if link.startswith(NETWORK_LINKS))
            for name, found in links.items()
        },
        networks=dict.fromkeys(world.nodes, world.network_links),
        journals={name: tuple(_record(name, row) for row in rows) for name, (rows, _) in journals.items()},
        owed={name: owed for name, (_, owed) in journals.items()},
        database=database,
        unanswered=unanswered,
        queues=queues(world),
    )


def from_database(world: World, read: Callable[[Connection], T]) -> T:
    """What `read` finds."""
    engine = open_engine(world.database_url)
    try:
        with engine.connect() as connection:
            return read(connection)
    finally:
        engine.dispose()


def queues(world: World) -> dict[str, int]:
    """The messages in each queue, ready and not; those of events apart, which nobody need read."""
    with Management(world.machine.services.management_url) as api:
        listed = api.get("queues", world.place.vhost)
    events = f"moorage.{Events.NAME}."
    return {
        queue["name"]: int(queue.get("messages", 0))
        for queue in listed
        if not queue["name"].startswith(events)
    }


def _journal(node: Node) -> tuple[list[Attachment], int]:
    """The attachments and how many releases are owed, from a copy: the worker has locked its own file."""
    with tempfile.TemporaryDirectory(prefix="moorage-soak.") as folder:
        for file in node.journal.parent.glob(f"{node.journal.name}*"):
            shutil.copy(file, folder)
        with closing(sqlite3.connect(Path(folder, node.journal.name))) as copy:
            return attachments.everything(copy), len(attachments.owed(copy))


def _links(node: Node) -> set[str]:
    with Netns(str(node.host.path)) as host:
        return veth.link_names(host)


def _is_endpoint(link: str) -> bool:
    return link.startswith(_OURS) and not link.startswith(NETWORK_LINKS)


def _record(node: str, row: Attachment) -> Record:
    return Record(
        owner=row.owner,
        network=row.network,
        node=node,
        container_id=row.container_id,
        attachment_id=str(row.attachment_id),
        host_link=row.host_link,
        state=str(row.state),
        addresses=frozenset(address.ip for address in row.addresses),
        mac=row.mac,
    )
