"""`moorage node list`."""

import typer
from rich.console import Console

from console import node_changes
from console.output import Column, OutputOption, draw_rows, say, show
from console.session import EXIT_CODES, LimitOption, asking
from schemas.node import NodeList, NodePage, NodeView


def register(group: typer.Typer) -> None:
    """Add the commands to `group`, which may have others already."""
    group.command("list", epilog=EXIT_CODES)(list_)
    node_changes.register(group)


def list_(ctx: typer.Context, limit: LimitOption = None, output: OutputOption = "table") -> None:
    """List all nodes that ever said something, by name."""
    with asking(ctx, output) as session:
        page = session.ask_pages(NodeList(), NodePage, "nodes", limit)
        show(page, output, _draw_page)


_COLUMNS: tuple[Column[NodeView], ...] = (
    Column("NODE", lambda view: view.node),
    Column("STATE", lambda view: view.state),
    Column("LAST SEEN", lambda view: view.last_seen),
    Column("ATTACHED", lambda view: view.attached),
    Column("NETWORKS READY", lambda view: view.ready, rank=1),
    Column("FAILED", lambda view: view.errors, rank=1),
    Column("SESSION", lambda view: view.session, rank=2),
)


def _draw_page(console: Console, page: NodePage) -> None:
    if page.nodes:
        draw_rows(console, _COLUMNS, page.nodes)
    else:
        say("No node has reported yet. `moorage node enroll NAME` makes a node's user for its node worker.")
