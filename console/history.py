"""`moorage history`: who held an address, when and where."""

import json
from typing import Annotated

import typer
from rich.console import Console

from console.output import Column, OutputOption, draw_rows, say, show
from console.session import EXIT_CODES, LimitOption, asking
from console.times import moment
from schemas.history import HistoryList, HistoryPage, HistoryRow

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
    network: Annotated[str, typer.Argument(metavar="NETWORK", help="the network's name")],
    address: Annotated[str | None, typer.Option(help="only of this address")] = None,
    owner: Annotated[str | None, typer.Option(help="only of this owner, such as shop/web-0")] = None,
    node: Annotated[str | None, typer.Option(help="only on this node")] = None,
    attachment_id: Annotated[str | None, typer.Option(help="only of this attachment")] = None,
    since: _Since = None,
    until: _Until = None,
    limit: LimitOption = None,
    output: OutputOption = "table",
) -> None:
    """Tell what happened to a network and its addresses, oldest first."""
    with asking(ctx, output) as session:
        query = HistoryList(
            network=network,
            address=address,
            owner=owner,
            node=node,
            attachment_id=attachment_id,
            since=moment("--since", since),
            until=moment("--until", until),
        )
        page = session.ask_pages(query, HistoryPage, "rows", limit)
        show(page, output, _draw_page)


def _details(row: HistoryRow) -> str | None:
    return json.dumps(row.details, sort_keys=True) if row.details else None


_COLUMNS: tuple[Column[HistoryRow], ...] = (
    Column("TIME", lambda row: row.at),
    Column("EVENT", lambda row: row.event),
    Column("ADDRESS", lambda row: row.address),
    Column("OWNER", lambda row: row.owner),
    Column("NODE", lambda row: row.node),
    Column("MAC", lambda row: row.mac, rank=1),
    Column("POOL", lambda row: row.pool, rank=2),
    Column("IFNAME", lambda row: row.ifname, rank=4),
    Column("BY", lambda row: row.user_id, rank=3),
    Column("CONTAINER", lambda row: row.container_id, rank=5),
    Column("ATTACHMENT", lambda row: row.attachment_id, rank=6),
    Column("SEQ", lambda row: row.seq, rank=7),
    Column("DETAILS", _details, rank=8),
)


def _draw_page(console: Console, page: HistoryPage) -> None:
    if page.rows:
        draw_rows(console, _COLUMNS, page.rows)
    else:
        say("Nothing in the history matches.")
