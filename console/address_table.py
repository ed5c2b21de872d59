"""Addresses as tables and as facts."""

from collections.abc import Sequence

from rich.console import Console

from console.output import Column, draw_facts, draw_rows
from schemas.address import AddressView

_COLUMNS: tuple[Column[AddressView], ...] = (
    Column("ADDRESS", lambda view: view.address),
    Column("STATE", lambda view: view.state),
    Column("OWNER", lambda view: view.owner),
    Column("NODE", lambda view: view.node),
    Column("SINCE", lambda view: view.since, rank=1),
    Column("POOL", lambda view: view.pool, rank=2),
    Column("POLICY", lambda view: view.policy, rank=4),
    Column("MAC", lambda view: view.mac, rank=3),
    Column("IFNAME", lambda view: view.ifname, rank=5),
    Column("CONTAINER", lambda view: view.container_id, rank=6),
    Column("ATTACHMENT", lambda view: view.attachment_id, rank=7),
)


def draw_addresses(console: Console, addresses: Sequence[AddressView]) -> None:
    """One row for each address."""
    draw_rows(console, _COLUMNS, addresses)


def draw_address(console: Console, view: AddressView) -> None:
    """One address, with all that is known of it."""
    facts = (
        ("network", view.network),
        ("address", view.address),
        ("state", view.state),
        ("since", view.since),
        ("owner", view.owner),
        ("node", view.node),
        ("pool", f"{view.pool} ({view.policy})"),
        ("mac", view.mac),
        ("ifname", view.ifname),
        ("container", view.container_id),
        ("attachment", view.attachment_id),
    )
    draw_facts(console, facts)
