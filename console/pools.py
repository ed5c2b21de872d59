"""`moorage pool create|list`."""

from typing import Annotated
from uuid import uuid4

import typer

from console import pool_changes
from console.changes import ActorOption
from console.output import OutputOption, show
from console.pool_changes import retain_seconds
from console.pool_table import draw_pool, draw_pools
from console.session import EXIT_CODES, LimitOption, RequestIdOption, asking
from console.times import seconds, spelled
from schemas.pool import DEFAULT_COOLDOWN_S, Policy, PoolCreate, PoolList, PoolPage, PoolView

HELP = "Pools of addresses: create, list, resize, update, delete."

_DEFAULT_COOLDOWN = spelled(DEFAULT_COOLDOWN_S)

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
    list[str] | None,
    typer.Option(
        "--range",
        metavar="FIRST-LAST",
        help="such as 10.20.0.10-10.20.0.20 or 10.20.0.16/28; repeat for more",
    ),
]
_Size = Annotated[
    int | None,
    typer.Option("--size", metavar="N", help="instead of ranges: any N addresses of each family"),
]
_Owners = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="who may use it, such as 'shop/web-*'; repeat for more (default: all of the network's)",
    ),
]
_Cooldown = Annotated[
    str, typer.Option(metavar="DURATION", help="how long a freed address rests: seconds, or such as 15m")
]
_Retain = Annotated[
    str | None,
    typer.Option(
        metavar="DURATION",
        help="how long an address waits for its owner, such as 30d (pinned pools; default: for ever)",
    ),
]
_AllowMac = Annotated[bool, typer.Option("--allow-mac", help="let owners choose their MAC address")]


def register(group: typer.Typer) -> None:
    """Add the commands to `group`."""
    group.command("create", epilog=EXIT_CODES)(create)
    group.command("list", epilog=EXIT_CODES)(list_)
    pool_changes.register(group)


def create(  # noqa: PLR0913, PLR0917  one argument for each option
    ctx: typer.Context,
    network: _Network,
    pool: _Pool,
    policy: _Policy,
    ranges: _Ranges = None,
    size: _Size = None,
    owner: _Owners = None,
    cooldown: _Cooldown = _DEFAULT_COOLDOWN,
    retain: _Retain = None,
    allow_mac: _AllowMac = False,
    actor: ActorOption = None,
    request_id: RequestIdOption = None,
    output: OutputOption = "table",
) -> None:
    """Carve a pool out of a network's default pool: the ranges named, or as many addresses as asked for.

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
            ranges=tuple(ranges or ()),
            size=size,
            owners=tuple(owner or ()),
            cooldown_s=seconds("--cooldown", cooldown),
            retain_s=None if retain is None else retain_seconds("--retain", retain),
            allow_mac=allow_mac,
        )
        show(session.ask(request, PoolView), output, draw_pool)


def list_(
    ctx: typer.Context, network: _Network, limit: LimitOption = None, output: OutputOption = "table"
) -> None:
    """List the pools of a network by name."""
    with asking(ctx, output) as session:
        page = session.ask_pages(PoolList(network=network), PoolPage, "pools", limit)
        show(page, output, draw_pools)
