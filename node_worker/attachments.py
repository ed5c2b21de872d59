"""What the journal holds of attachments and of releases that are still owed.

An attachment goes allocating -> wiring -> attached -> removing -> away; allocating and wiring may turn to
removing too. What a killed worker left behind is told by the row's state alone.
All functions run in one transaction of `Journal.run`.
"""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import Any
from uuid import UUID

from schemas.node import LeftoverAttachment, NodeAttachment

IPInterface = IPv4Interface | IPv6Interface


class State(StrEnum):
    """How far an attachment is."""

    ALLOCATING = "allocating"
    """The allocator may have given it addresses."""
    WIRING = "wiring"
    """It has addresses, and maybe an endpoint."""
    ATTACHED = "attached"
    """The runtime was, or is being, told that it is there."""
    REMOVING = "removing"
    """Its release is owed, and its endpoint is cut but maybe still there."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """One row: whose it is, where, how far. The netns is told by path and by device and inode."""

    attachment_id: UUID
    network: str
    conf_name: str
    container_id: str
    ifname: str
    owner: str
    netns: str
    netns_device: int
    netns_inode: int
    boot_id: str
    driver: str
    bridge: str
    host_link: str
    state: State = State.ALLOCATING
    addresses: tuple[IPInterface, ...] = ()
    mac: str | None = None
    netns_cookie: int = 0
    """Of a pod that another plugin wires: tells its namespace from a later one with the same inode."""


@dataclass(frozen=True, slots=True)
class Release:
    """A release that the allocator has not answered yet. Without attachment_id it goes by container."""

    id: int
    network: str
    container_id: str
    ifname: str
    attachment_id: UUID | None


_COLUMNS = (
    "attachment_id, network, conf_name, container_id, ifname, owner, netns, netns_device, netns_inode, "
    "boot_id, driver, bridge, host_link, state, addresses, mac, netns_cookie"
)


_MARKS = ", ".join("?" * len(_COLUMNS.split(", ")))
_HELD = "state IN ('wiring', 'attached')"


def begin(connection: sqlite3.Connection, attachment: Attachment) -> None:
    """Write `attachment` down before its addresses are asked for; replaces a row of the same id."""
    gone(connection, attachment.attachment_id)
    connection.execute(
        f"INSERT INTO attachments ({_COLUMNS}) VALUES ({_MARKS})",  # noqa: S608
        (
            str(attachment.attachment_id),
            attachment.network,
            attachment.conf_name,
            attachment.container_id,
            attachment.ifname,
            attachment.owner,
            attachment.netns,
            attachment.netns_device,
            attachment.netns_inode,
            attachment.boot_id,
            attachment.driver,
            attachment.bridge,
            attachment.host_link,
            attachment.state,
            _listed(attachment.addresses),
            attachment.mac,
            attachment.netns_cookie,
        ),
    )


def begin_afresh(connection: sqlite3.Connection, attachment: Attachment) -> bool:
    """As `begin`, where nothing is known or owed of the interface; False, and nothing done, where it is."""
    found = connection.execute(
        "SELECT 1 FROM attachments WHERE container_id = ?1 AND ifname = ?2 AND conf_name = ?3 UNION ALL "
        "SELECT 1 FROM releases WHERE attachment_id IS NULL AND container_id = ?1 AND ifname = ?2",
        (attachment.container_id, attachment.ifname, attachment.conf_name),
    )
    if found.fetchone() is not None:
        return False
    begin(connection, attachment)
    return True


def answered(
    connection: sqlite3.Connection,
    attachment_id: UUID,
    addresses: Sequence[IPInterface],
    mac: str,
    replaces: Sequence[UUID],
) -> bool:
    """Note what the allocator gave: from now on there may be an endpoint, and those it `replaces` must go.

    False if this attachment is to go already.
    """
    for replaced in replaces:
        old = by_id(connection, replaced)
        if old is not None:
            removing(connection, old)
    changed = connection.execute(
        "UPDATE attachments SET state = 'wiring', addresses = ?, mac = ? "
        "WHERE attachment_id = ? AND state = 'allocating'",
        (_listed(addresses), mac, str(attachment_id)),
    )
    return changed.rowcount > 0


def attached(connection: sqlite3.Connection, attachment_id: UUID) -> bool:
    """Note that the endpoint is complete. False if it is to go already: it was replaced meanwhile."""
    changed = connection.execute(
        "UPDATE attachments SET state = 'attached' WHERE attachment_id = ? AND state = 'wiring'",
        (str(attachment_id),),
    )
    return changed.rowcount > 0


def removing(connection: sqlite3.Connection, attachment: Attachment) -> Release | None:
    """Owe the release of an attachment whose endpoint is cut; None when that was owed before."""
    changed = connection.execute(
        "UPDATE attachments SET state = 'removing' WHERE attachment_id = ? AND state <> 'removing'",
        (str(attachment.attachment_id),),
    )
    if changed.rowcount == 0:
        return _owed(connection, attachment)
    return _owe(connection, attachment)


def gone(connection: sqlite3.Connection, attachment_id: UUID) -> None:
    """Forget an attachment whose endpoint is away and whose release is owed or not needed."""
    connection.execute("DELETE FROM attachments WHERE attachment_id = ?", (str(attachment_id),))


def owe_nameless(
    connection: sqlite3.Connection, network: str, container_id: str, ifname: str
) -> Release | None:
    """Owe a release by container, for an attachment the journal does not know.

    None when the container has such an interface under another configuration: that one must stay.
    """
    known = connection.execute(
        "SELECT 1 FROM attachments WHERE container_id = ? AND ifname = ?", (container_id, ifname)
    )
    if known.fetchone() is not None:
        return None
    connection.execute(
        "INSERT INTO releases (network, container_id, ifname) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (network, container_id, ifname),
    )
    found = connection.execute(
        f"{_RELEASES} WHERE attachment_id IS NULL AND network = ? AND container_id = ? AND ifname = ?",
        (network, container_id, ifname),
    )
    return _release(found.fetchone())


def owe_unknown(connection: sqlite3.Connection, leftover: LeftoverAttachment) -> Release | None:
    """Owe the release of an attachment that only the allocator has.

    None when the journal has it in any state, or owes its release already.
    """
    named = str(leftover.attachment_id)
    known = connection.execute(
        "SELECT 1 FROM attachments WHERE attachment_id = ? UNION ALL "
        "SELECT 1 FROM releases WHERE attachment_id = ?",
        (named, named),
    )
    if known.fetchone() is not None:
        return None
    return _owe(connection, leftover)


def owe_again(connection: sqlite3.Connection, ended: Iterable[NodeAttachment]) -> list[Release]:
    """Owe anew the releases of those that are not held any more, also where one was sent already."""
    still = set(held_ids(connection))
    releases = []
    for item in ended:
        if item.attachment_id not in still:
            connection.execute("DELETE FROM releases WHERE attachment_id = ?", (str(item.attachment_id),))
            releases.append(_owe(connection, item))
    return [release for release in releases if release is not None]


def find(connection: sqlite3.Connection, container_id: str, ifname: str, conf_name: str) -> Attachment | None:
    """The attachment of a container's interface under a CNI configuration."""
    return _one(
        connection, "container_id = ? AND ifname = ? AND conf_name = ?", container_id, ifname, conf_name
    )


def by_id(connection: sqlite3.Connection, attachment_id: UUID) -> Attachment | None:
    """The attachment of that id."""
    return _one(connection, "attachment_id = ?", str(attachment_id))


def predecessors(connection: sqlite3.Connection, attachment_id: UUID) -> list[Attachment]:
    """Whom this attachment may have taken its addresses over from: none, once its answer is known.

    They are the older attachments of its owner's interface. As long as the answer of its allocate is not
    known, the allocator may have handed their addresses to it.
    """
    asking = by_id(connection, attachment_id)
    if asking is None or asking.state is not State.ALLOCATING:
        return []
    return _all(
        connection,
        "network = ? AND owner = ? AND ifname = ? AND attachment_id <> ?",
        asking.network,
        asking.owner,
        asking.ifname,
        str(attachment_id),
    )


def left_over(connection: sqlite3.Connection, boot_id: str) -> list[Attachment]:
    """All that a killed worker left neither attached nor away, and all of an earlier boot of the machine."""
    return _all(connection, "state <> 'attached' OR boot_id <> ?", boot_id)


def held(connection: sqlite3.Connection) -> list[Attachment]:
    """Those whose allocate was answered and that are not to go: what the allocator should have, too."""
    return _all(connection, _HELD)


def held_ids(connection: sqlite3.Connection) -> list[UUID]:
    """The ids of `held`, without the rest."""
    rows = connection.execute(f"SELECT attachment_id FROM attachments WHERE {_HELD}")  # noqa: S608
    return [UUID(attachment_id) for (attachment_id,) in rows]


def everything(connection: sqlite3.Connection) -> list[Attachment]:
    """All attachments, in any state."""
    return _all(connection, "TRUE")


def of_network(connection: sqlite3.Connection, network: str) -> list[Attachment]:
    """All attachments on a network, in any state."""
    return _all(connection, "network = ?", network)


def of_configuration(connection: sqlite3.Connection, conf_name: str) -> list[Attachment]:
    """All attachments made under a CNI configuration's name, in any state."""
    return _all(connection, "conf_name = ?", conf_name)


def owed(connection: sqlite3.Connection) -> list[Release]:
    """All releases not answered yet, oldest first."""
    return [_release(row) for row in connection.execute(f"{_RELEASES} ORDER BY id")]


def nameless(connection: sqlite3.Connection, container_id: str, ifname: str) -> list[Release]:
    """The releases by container that are owed for this interface."""
    rows = connection.execute(
        f"{_RELEASES} WHERE attachment_id IS NULL AND container_id = ? AND ifname = ?", (container_id, ifname)
    )
    return [_release(row) for row in rows]


def settled(connection: sqlite3.Connection, release_id: int) -> None:
    """Forget a release that was answered."""
    connection.execute("DELETE FROM releases WHERE id = ?", (release_id,))


_Named = Attachment | LeftoverAttachment | NodeAttachment
_RELEASES = "SELECT id, network, container_id, ifname, attachment_id FROM releases"


def _owe(connection: sqlite3.Connection, attachment: _Named) -> Release | None:
    connection.execute(
        "INSERT INTO releases (network, container_id, ifname, attachment_id) VALUES (?, ?, ?, ?) "
        "ON CONFLICT DO NOTHING",
        (attachment.network, attachment.container_id, attachment.ifname, str(attachment.attachment_id)),
    )
    return _owed(connection, attachment)


def _owed(connection: sqlite3.Connection, attachment: _Named) -> Release | None:
    row = connection.execute(
        f"{_RELEASES} WHERE attachment_id = ?", (str(attachment.attachment_id),)
    ).fetchone()
    return _release(row) if row is not None else None


def _release(row: tuple[Any, ...]) -> Release:
    number, network, container_id, ifname, attachment_id = row
    named = UUID(attachment_id) if attachment_id is not None else None
    return Release(number, network, container_id, ifname, named)


def _one(connection: sqlite3.Connection, condition: str, *values: str) -> Attachment | None:
    rows = _all(connection, condition, *values)
    return rows[0] if rows else None


def _all(connection: sqlite3.Connection, condition: str, *values: str) -> list[Attachment]:
    rows = connection.execute(f"SELECT {_COLUMNS} FROM attachments WHERE {condition}", values)  # noqa: S608
    return [_attachment(row) for row in rows]


def _attachment(row: tuple[Any, ...]) -> Attachment:
    values = dict(zip(_COLUMNS.split(", "), row, strict=True))
    values["attachment_id"] = UUID(values["attachment_id"])
    values["state"] = State(values["state"])
    values["addresses"] = tuple(ip_interface(text) for text in json.loads(values["addresses"]))
    return Attachment(**values)


def _listed(addresses: Sequence[IPInterface]) -> str:
    return json.dumps([str(address) for address in addresses])
