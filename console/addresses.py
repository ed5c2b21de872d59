"""`moorage address list|show`."""

from typing import Annotated

import typer
from rich.console import Console

from console.output import Column, OutputOption, draw_facts, draw_rows, say, show
from console.session import EXIT_CODES, LimitOption, asking
from schemas.address import AddressList, AddressPage, AddressShow, AddressView, AllocationState

HELP = "Addresses and who has them: list, show."

_Network = Annotated[str, typer.Argument(metavar="NETWORK", help="the network's name")]


def register(group: typer.Typer) -> None:
    """Add the commands to `group`."""
    group.command("list", epilog=EXIT_CODES)(list_)
    group.command("show", epilog=EXIT_CODES)(show_)


def list_(
    ctx: typer.Context,
    network: _Network,
    pool: Annotated[str | None, typer.Option(help="only of this pool")] = None,
    owner: Annotated[str | None, typer.Option(help="only this owner's, such as shop/web-0")] = None,
    node: Annotated[str | None, typer.Option(help="only on this node")] = None,
    state: Annotated[AllocationState | None, typer.Option(help="only in this state")] = None,
    limit: LimitOption = None,
    output: OutputOption = "table",
) -> None:
    """List the addresses of a network that were ever used, in address order."""
    with asking(ctx, output) as session:
        query = AddressList(network=network, pool=pool, owner=owner, node=node, state=state)
        page = session.ask_pages(query, AddressPage, "addresses", limit)
        show(page, output, _draw_page)


def show_(
    ctx: typer.Context,
    network: _Network,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="such as 10.20.0.10")],
    output: OutputOption = "table",
) -> None:
    """Show one address: its owner, and where it is attached."""
    with asking(ctx, output) as session:
        show(session.ask(AddressShow(network=network, address=address), AddressView), output, _draw_one)


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


def _draw_page(console: Console, page: AddressPage) -> None:
    if page.addresses:
        draw_rows(console, _COLUMNS, page.addresses)
    else:
        say("No address matches: those never used are not listed.")


def _draw_one(console: Console, view: AddressView) -> None:
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
