"""History read back: who held which address when, and whether that can have happened so."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.fields import IPAddress
from tests.promised.state import Net, Row

_GAIN = {"address.attached": "attached", "address.adopted": "attached"}
_PIN = {"address.reserved": "waiting", "address.rebound": "waiting"}
_LOSS = {"address.waiting": "waiting", "address.freed": "free", "address.taken_over": "taken"}


@dataclass
class Held:
    """What history says of an address by now."""

    state: str = "free"
    owner: str | None = None
    ifname: str | None = None
    mac: str | None = None
    holder: tuple[Any, ...] = (None, None, None)
    """Node, container and attachment."""


@dataclass
class Chronicle:
    """The history of one network, as far as it was read."""

    seq: int = 0
    addresses: dict[IPAddress, Held] = field(default_factory=dict)

    def read(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Go on with these rows of history, oldest first."""
        for entry in entries:
            assert entry["seq"] > self.seq, "seq goes back"
            self.seq = entry["seq"]
            if entry["address"] is not None:
                self._read(entry, self.addresses.setdefault(entry["address"], Held()))

    def _read(self, entry: Mapping[str, Any], held: Held) -> None:
        event = entry["event"]
        who = (entry["owner"], entry["ifname"])
        holder = (entry["node"], entry["container_id"], entry["attachment_id"])
        if event in _GAIN:
            free = held.state in ("free", "taken")
            assert free or (held.state == "waiting" and (held.owner, held.ifname) == who), entry
        elif event in _PIN:
            assert held.state == "free", entry
        elif event == "address.quarantined" and holder[2] is None and holder[0] is not None:
            assert held.state == "free", (
                entry
            )  # withheld for an attachment that nobody knows, and heard there
        else:
            assert held.holder == holder, entry
            assert held.state == "attached" if holder[2] is not None else held.state != "attached", entry
        held.state = (_GAIN | _PIN | _LOSS).get(event, "quarantined")
        held.owner, held.ifname, held.mac = *who, entry["mac"]
        held.holder = holder if event in _GAIN else (None, None, None)

    def check(self, net: Net) -> None:
        """Compare with who has what."""
        for address, held in self.addresses.items():
            row = net.rows.get(address)
            assert row is not None, address
            assert held.state == row.state, (held, row)
            assert held.holder == (row.node, row.container, row.attachment), (held, row)
            assert held.owner == row.owner, (held, row)
            assert held.state != "attached" or held.ifname == row.ifname
            assert held.state != "attached" or row.mac in (held.mac, None)
        assert all(row.address in self.addresses for row in net.rows.values() if row.held)


def told(row: Row) -> tuple[Any, ...]:
    """A row as the database must have it."""
    owner = row.owner if row.pinned else None
    here = (row.node, row.container, row.attachment)
    return (row.state, row.since, row.owner, owner, row.ifname, row.mac, *here)
