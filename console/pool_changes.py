"""`moorage pool resize|update|delete`."""

from typing import Annotated
from uuid import uuid4

import typer

from console.changes import ActorOption, ExpectedVersionOption, YesOption, confirm, has_to_ask
from console.output import OutputOption, show
from console.owners import EverybodyOption, OwnersOption, new_owners
from console.pool_table import draw_pool
from console.session import EXIT_CODES, RequestIdOption, asking
from console.times import seconds
from schemas.errors import Code, ServiceError
from schemas.message import Done
from schemas.pool import PoolDelete, PoolResize, PoolUpdate, PoolView

_Network = Annotated[str, typer.Argument(metavar="NETWORK", help="the network's name")]
_Pool = Annotated[str, typer.Argument(metavar="POOL", help="the pool's name")]
_Add = Annotated[
    list[str] | None,
    typer.Option(metavar="FIRST-LAST", help="take this range from the default pool; repeat for more"),
]
_Remove = Annotated[
    list[str] | None,
    typer.Option(metavar="FIRST-LAST", help="give this range back to the default pool; repeat for more"),
]
_Size = Annotated[
    int | None,
    typer.Option("--size", metavar="N", help="instead of ranges: let it have N addresses of each family"),
]
_Cooldown = Annotated[
    str | None,
    typer.Option(metavar="DURATION", help="how long a freed address rests: seconds, or such as 15m"),
]
_Retain = Annotated[
    str | None,
    typer.Option(metavar="DURATION", help="how long an address waits for its owner, such as 30d"),
]
_RetainForever = Annotated[bool, typer.Option("--retain-forever", help="addresses wait for ever")]
_AllowMac = Annotated[
    bool | None,
    typer.Option("--allow-mac/--no-allow-mac", help="whether owners may choose their MAC address"),
]


def register(group: typer.Typer) -> None:
    """Add the commands to `group`."""
    for command in (resize, update, delete):
        group.command(command.__name__, epilog=EXIT_CODES)(command)


def resize(  # noqa: PLR0913, PLR0917  one argument for each option
    ctx: typer.Context,
    network: _Network,
    pool: _Pool,
    add: _Add = None,
    remove: _Remove = None,
    size: _Size = None,
    expected_version: ExpectedVersionOption = None,
    actor: ActorOption = None,
    request_id: RequestIdOption = None,
    output: OutputOption = "table",
) -> None:
    """Take ranges from a network's default pool or give some back, by name or by size.

    By size, the highest addresses go back first. An address that somebody holds is never taken away: the
    refusal names who holds it.
    """
    attempt = request_id or str(uuid4())
    with asking(ctx, output, request_id=attempt) as session:
        request = PoolResize(
            request_id=attempt,
            actor=actor,
            network=network,
            pool=pool,
            expected_version=expected_version,
            add=tuple(add or ()),
            remove=tuple(remove or ()),
            size=size,
        )
        show(session.ask(request, PoolView), output, draw_pool)


def update(  # noqa: PLR0913, PLR0917  one argument for each option
    ctx: typer.Context,
    network: _Network,
    pool: _Pool,
    owner: OwnersOption = None,
    everybody: EverybodyOption = False,
    cooldown: _Cooldown = None,
    retain: _Retain = None,
    retain_forever: _RetainForever = False,
    allow_mac: _AllowMac = None,
    expected_version: ExpectedVersionOption = None,
    actor: ActorOption = None,
    request_id: RequestIdOption = None,
    output: OutputOption = "table",
) -> None:
    """Change who may use a pool and how it treats its addresses; what is not named stays as it is.

    Addresses that owners hold stay theirs.
    """
    attempt = request_id or str(uuid4())
    with asking(ctx, output, request_id=attempt) as session:
        request = PoolUpdate(
            request_id=attempt,
            actor=actor,
            network=network,
            pool=pool,
            expected_version=expected_version,
            owners=new_owners(owner, everybody),
            cooldown_s=None if cooldown is None else seconds("--cooldown", cooldown),
            retain_s=_retain_s(retain, retain_forever),
            allow_mac=allow_mac,
        )
        _check_changes_something(request)
        show(session.ask(request, PoolView), output, draw_pool)


def delete(
    ctx: typer.Context,
    network: _Network,
    pool: _Pool,
    expected_version: ExpectedVersionOption = None,
    yes: YesOption = False,
    actor: ActorOption = None,
    request_id: RequestIdOption = None,
    output: OutputOption = "table",
) -> None:
    """Give all of a pool's addresses back to its network's default pool.

    A pool with addresses that somebody holds is refused, with who holds them.
    """
    attempt = request_id or str(uuid4())
    with asking(ctx, output, request_id=attempt) as session:
        request = PoolDelete(
            request_id=attempt, actor=actor, network=network, pool=pool, expected_version=expected_version
        )
        if has_to_ask(yes):
            confirm(f"Its addresses go back to the default pool. Delete pool {pool} of network {network}?")
        show(
            session.ask(request, Done),
            output,
            lambda console, _: console.print(f"pool {pool} of network {network} is deleted"),
        )


def retain_seconds(option: str, text: str) -> int:
    """How long an address waits for its owner, in seconds: 0 is refused, for to some requests it is for ever.

    Raises `invalid_request` that names `option`.
    """
    retain = seconds(option, text)
    if retain == 0:
        raise ServiceError(
            Code.INVALID_REQUEST,
            f"{option} {text}: write at least 1s; where addresses are not to wait, use a shared pool",
        )
    return retain


def _retain_s(retain: str | None, forever: bool) -> int | None:
    """`retain_s` as `pool.update` means it: 0 is for ever, None is no change."""
    if retain is not None and forever:
        raise ServiceError(Code.INVALID_REQUEST, "say --retain or --retain-forever: one of the two")
    if forever:
        return 0
    return None if retain is None else retain_seconds("--retain", retain)


def _check_changes_something(request: PoolUpdate) -> None:
    changes = (request.owners, request.cooldown_s, request.retain_s, request.allow_mac)
    if all(change is None for change in changes):
        raise ServiceError(
            Code.INVALID_REQUEST,
            "nothing to change: name --owner, --everybody, --cooldown, --retain, --retain-forever, "
            "--allow-mac or --no-allow-mac",
        )
