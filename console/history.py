"""`moorage history`: who held an address, when and where; what happened to nodes."""

import json
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console

from console.output import Column, OutputOption, draw_rows, say, show
from console.session import EXIT_CODES, LimitOption, asking
from console.times import moment
from schemas.errors import Code, ServiceError
from schemas.fields import SYSTEM_NETWORK
from schemas.history import HistoryList, HistoryPage, HistoryRow

_Network = Annotated[str | None, typer.Argument(metavar="NETWORK", help="the network's name")]
_Nodes = Annotated[
    bool, typer.Option("--nodes", help="instead of a network: what happened to nodes and dead letters")
]
_Since = Annotated[
    str | None,
    typer.Option(
        metavar="TIME", help="from then on, such as 2026-03-01T14:05:00; UTC unless it names a zone"
    ),
]
_Until = Annotated[str | None, typer.Option(metavar="TIME", help="before then")]


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("history", epilog=EXIT_CODES)(history)


def history(  # noqa: PLR0913, PLR0917  one argument for each option
    ctx: typer.Context,
    network: Annotated[str | None, typer.Argument(metavar="NETWORK", help="the network's name")] = None,
    nodes: Annotated[
        bool,
        typer.Option("--nodes", help="what happened to nodes, and to dead letters, instead of a network"),
    ] = False,
    address: Annotated[str | None, typer.Option(help="only of this address")] = None,
    owner: Annotated[str | None, typer.Option(help="only of this owner, such as shop/web-0")] = None,
    node: Annotated[str | None, typer.Option(help="only on this node")] = None,
    container: Annotated[str | None, typer.Option(metavar="ID", help="only of this container")] = None,
    attachment_id: Annotated[str | None, typer.Option(help="only of this attachment")] = None,
    since: _Since = None,
    until: _Until = None,
    newest_first: Annotated[bool, typer.Option("--newest-first", help="the latest at the top")] = False,
    limit: LimitOption = None,
    output: OutputOption = "table",
) -> None:
    """Tell what happened to a network and its addresses, or to nodes; the oldest first."""
    with asking(ctx, output) as session:
        query = HistoryList(
            network=_whose(network, nodes),
            address=address,
            owner=owner,
            node=node,
            container_id=container,
            attachment_id=attachment_id,
            since=moment("--since", since),
            until=moment("--until", until),
            newest_first=newest_first,
        )
        page = session.ask_pages(query, HistoryPage, "rows", limit)
        show(page, output, _draw_nodes if query.network == SYSTEM_NETWORK else _draw_network)


def _whose(network: str | None, nodes: bool) -> str:
    """The network whose history is meant. Raises `invalid_request` unless it is exactly one."""
    if nodes and network is None:
        return SYSTEM_NETWORK
    if network is not None and not nodes:
        return network
    raise ServiceError(
        Code.INVALID_REQUEST,
        "name a NETWORK, or --nodes for what happened to nodes: one of the two; `moorage network list` "
        "shows the networks",
    )


def _details(row: HistoryRow) -> str | None:
    return json.dumps(row.details, sort_keys=True) if row.details else None


_COLUMNS: tuple[Column[HistoryRow], ...] = (
    Column("TIME", lambda row: row.at),
    Column("EVENT", lambda row: row.event),
    Column("ADDRESS", lambda row: row.address),
    Column("OWNER", lambda row: row.owner),
    Column("NODE", lambda row: row.node),
    Column("MAC", lambda row: row.mac, rank=2),
    Column("POOL", lambda row: row.pool, rank=3),
    Column("IFNAME", lambda row: row.ifname, rank=5),
    Column("BY", lambda row: row.user_id, rank=4),
    Column("ACTOR", lambda row: row.actor, rank=1),
    Column("CONTAINER", lambda row: row.container_id, rank=6),
    Column("ATTACHMENT", lambda row: row.attachment_id, rank=7),
    Column("SEQ", lambda row: row.seq, rank=8),
    Column("DETAILS", _details, rank=9),
)
_NODE_COLUMNS: tuple[Column[HistoryRow], ...] = (
    Column("TIME", lambda row: row.at),
    Column("EVENT", lambda row: row.event),
    Column("NODE", lambda row: row.node),
    Column("BY", lambda row: row.user_id, rank=2),
    Column("ACTOR", lambda row: row.actor, rank=1),
    Column("SEQ", lambda row: row.seq, rank=4),
    Column("DETAILS", _details, rank=3, folds=True),
)


def _draw_network(console: Console, page: HistoryPage) -> None:
    _draw(console, _COLUMNS, page)


def _draw_nodes(console: Console, page: HistoryPage) -> None:
    _draw(console, _NODE_COLUMNS, page)


def _draw(console: Console, columns: Sequence[Column[HistoryRow]], page: HistoryPage) -> None:
    if page.rows:
        draw_rows(console, columns, page.rows)
    else:
        say("Nothing in the history matches.")
