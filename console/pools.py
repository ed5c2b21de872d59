"""`moorage pool create|list`."""

from typing import Annotated
from uuid import uuid4

import typer
from rich.console import Console

from console.changes import ActorOption
from console.output import Column, OutputOption, draw_rows, show
from console.session import EXIT_CODES, LimitOption, RequestIdOption, asking
from schemas.pool import Policy, PoolCreate, PoolList, PoolPage, PoolView

HELP = "Pools of addresses: create, list."

_Network = Annotated[str, typer.Argument(metavar="NETWORK", help="the network's name")]
_Pool = Annotated[str, typer.Argument(metavar="POOL", help="the new pool's name")]
_Policy = Annotated[
    Policy,
    typer.Option(
        help="shared: any allowed owner takes any free address; pinned: an address waits for its owner; "
        "reserved: never handed out"
    ),
]
_Ranges = Annotated[
    list[str],
    typer.Option(
        "--range",
        metavar="FIRST-LAST",
        help="such as 10.20.0.10-10.20.0.20 or 10.20.0.16/28; repeat for more",
    ),
]
_Owners = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="who may use it, such as 'shop/web-*'; repeat for more (default: all of the network's)",
    ),
]
_Cooldown = Annotated[int, typer.Option(help="rest of a freed address, in seconds")]


def register(group: typer.Typer) -> None:
    """Add the commands to `group`."""
    group.command("create", epilog=EXIT_CODES)(create)
    group.command("list", epilog=EXIT_CODES)(list_)


def create(  # noqa: PLR0913, PLR0917  one argument for each option
    ctx: typer.Context,
    network: _Network,
    pool: _Pool,
    policy: _Policy,
    ranges: _Ranges,
    owner: _Owners = None,
    cooldown: _Cooldown = 120,
    actor: ActorOption = None,
    request_id: RequestIdOption = None,
    output: OutputOption = "table",
) -> None:
    """Carve a pool out of a network's default pool.

    A pool that exists already with the same definition is a success.
    """
    attempt = request_id or str(uuid4())
    with asking(ctx, output, request_id=attempt) as session:
        request = PoolCreate(
            request_id=attempt,
            actor=actor,
            network=network,
            pool=pool,
            policy=policy,
            ranges=tuple(ranges),
            owners=tuple(owner or ()),
            cooldown_s=cooldown,
        )
        show(session.ask(request, PoolView), output, _draw_one)


def list_(
    ctx: typer.Context, network: _Network, limit: LimitOption = None, output: OutputOption = "table"
) -> None:
    """List the pools of a network by name."""
    with asking(ctx, output) as session:
        page = session.ask_pages(PoolList(network=network), PoolPage, "pools", limit)
        show(page, output, _draw_page)


def _ranges(view: PoolView) -> tuple[str, ...]:
    """The ranges, and how many more there are: an answer holds only the first of many."""
    told = tuple(str(part) for part in view.ranges)
    more = view.range_count - len(told)
    return (*told, f"and {more} more") if more > 0 else told


_COLUMNS: tuple[Column[PoolView], ...] = (
    Column("POOL", lambda view: view.pool),
    Column("POLICY", lambda view: view.policy),
    Column("RANGES", _ranges, folds=True),
    Column("USED", lambda view: f"{view.used} of {view.total}"),
    Column("OWNERS", lambda view: view.owners or "all of the network", folds=True),
    Column("COOLDOWN", lambda view: f"{view.cooldown_s} s"),
)


def _draw_page(console: Console, page: PoolPage) -> None:
    draw_rows(console, _COLUMNS, page.pools)


def _draw_one(console: Console, view: PoolView) -> None:
    draw_rows(console, _COLUMNS, (view,))
