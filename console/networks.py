"""`moorage network list|show`, and what changes networks (`network_changes.py`)."""

from typing import Annotated

import typer

from console import network_changes
from console.network_table import draw_network, draw_networks
from console.output import OutputOption, show
from console.session import EXIT_CODES, LimitOption, asking
from schemas.network import NetworkList, NetworkPage, NetworkShow, NetworkView

HELP = "Networks: create, update, delete, list, show."

_Network = Annotated[str, typer.Argument(metavar="NAME", help="the network's name")]


def register(group: typer.Typer) -> None:
    """Add the commands to `group`."""
    network_changes.register(group)
    for command in (list_, show_):
        group.command(command.__name__.rstrip("_"), epilog=EXIT_CODES)(command)


def list_(ctx: typer.Context, limit: LimitOption = None, output: OutputOption = "table") -> None:
    """List all networks by name."""
    with asking(ctx, output) as session:
        page = session.ask_pages(NetworkList(), NetworkPage, "networks", limit)
        show(page, output, draw_networks)


def show_(ctx: typer.Context, network: _Network, output: OutputOption = "table") -> None:
    """Show one network with its state node by node."""
    with asking(ctx, output) as session:
        show(session.ask(NetworkShow(network=network), NetworkView), output, draw_network)
