"""`moorage address list|show`."""

from typing import Annotated

import typer
from rich.console import Console

from console import address_changes, address_map
from console.address_table import draw_address, draw_addresses
from console.output import OutputOption, say, show
from console.session import EXIT_CODES, LimitOption, asking
from console.times import moment
from schemas.address import AddressList, AddressPage, AddressShow, AddressView, AllocationState

HELP = "Addresses and who has them: list, show, map, reserve, rebind, release."

_Network = Annotated[str, typer.Argument(metavar="NETWORK", help="the network's name")]
_At = Annotated[
    str | None,
    typer.Option(
        metavar="TIME", help="as it was then, such as 2026-03-01T14:05:00; UTC unless it names a zone"
    ),
]


def register(group: typer.Typer) -> None:
    """Add the commands to `group`."""
    group.command("list", epilog=EXIT_CODES)(list_)
    group.command("show", epilog=EXIT_CODES)(show_)
    address_map.register(group)
    address_changes.register(group)


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
    at: _At = None,
    output: OutputOption = "table",
) -> None:
    """Show one address: its owner and where it is attached, now or as it was at a time."""
    with asking(ctx, output) as session:
        query = AddressShow(network=network, address=address, at=moment("--at", at))
        show(session.ask(query, AddressView), output, draw_address)


def _draw_page(console: Console, page: AddressPage) -> None:
    if page.addresses:
        draw_addresses(console, page.addresses)
    else:
        say("No address matches: those never used are not listed.")
