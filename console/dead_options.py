"""Which dead letters a command means: the options, and what they come to."""

import inspect
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial, wraps
from typing import Annotated, Any

import typer

from broker.dead_letters.choosing import Choice
from console.times import seconds
from schemas.errors import Code, ServiceError

IdsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[ID]...", help="letters, by their id or its first 6 characters")
]
RequestOption = Annotated[
    str | None,
    typer.Option("--request", metavar="NAME", help="only of this request, such as address.release"),
]
NetworkOption = Annotated[str | None, typer.Option("--network", metavar="NAME", help="only of this network")]
NodeOption = Annotated[str | None, typer.Option("--node", metavar="NAME", help="only about this node")]
SenderOption = Annotated[
    str | None, typer.Option("--sender", metavar="USER", help="only from this user, such as node.worker-1")
]
CodeOption = Annotated[
    str | None, typer.Option("--code", metavar="CODE", help="only with this code, such as pool_unknown")
]
ReasonOption = Annotated[
    str | None, typer.Option("--reason", metavar="TEXT", help="only those whose reason has this text in it")
]
OlderOption = Annotated[
    str | None,
    typer.Option("--older-than", metavar="AGE", help="first dead for longer than 90s, 15m, 12h, 30d"),
]
NewerOption = Annotated[
    str | None, typer.Option("--newer-than", metavar="AGE", help="first dead for less than that")
]
RunOption = Annotated[
    str | None, typer.Option("--run", metavar="ID", help="only those that came back from this replay")
]
AllOption = Annotated[bool, typer.Option("--all", help="all of them")]

_SHORTEST_ID = 6


def chosen(  # noqa: PLR0913, PLR0917  one argument for each option
    ids: IdsArgument = None,
    request: RequestOption = None,
    network: NetworkOption = None,
    node: NodeOption = None,
    sender: SenderOption = None,
    code: CodeOption = None,
    reason: ReasonOption = None,
    older_than: OlderOption = None,
    newer_than: NewerOption = None,
    run: RunOption = None,
) -> Choice:
    """What the options mean. Raises `invalid_request`."""
    short = [one for one in ids or () if len(one) < _SHORTEST_ID]
    if short:
        raise ServiceError(
            Code.INVALID_REQUEST,
            f"{', '.join(short)}: give at least {_SHORTEST_ID} characters of an id; `moorage dead list` "
            "has them",
        )
    now = datetime.now(UTC)
    return Choice(
        ids=tuple(ids or ()),
        request=request,
        network=network,
        node=node,
        sender=sender,
        code=code,
        reason=reason,
        before=_ago("--older-than", older_than, now),
        since=_ago("--newer-than", newer_than, now),
        replay=run,
    )


def choosing(command: Callable[..., None], *, ids: bool = True) -> Callable[..., None]:
    """`command` with all options of `chosen`; what they mean is its argument `choice`, a function.

    It is a function so that a value that cannot be used is found where the command tells of failures.
    """
    own = inspect.signature(command)
    options = {
        name: one for name, one in inspect.signature(chosen).parameters.items() if ids or name != "ids"
    }

    @wraps(command)
    def with_options(**given: Any) -> None:
        values = {name: given.pop(name) for name in options}
        command(choice=partial(chosen, **values), **given)

    kept = [one for name, one in own.parameters.items() if name != "choice"]
    needed = [one for one in kept if one.default is one.empty]
    parameters = [*needed, *options.values(), *(one for one in kept if one.default is not one.empty)]
    with_options.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {one.name: one.annotation for one in parameters}
    return with_options


def check_meant(choice: Choice, everything: bool) -> None:
    """Raise `invalid_request` where nothing says which letters are meant, or two things do."""
    if everything == bool(choice.told):
        raise ServiceError(
            Code.INVALID_REQUEST,
            "say which letters are meant: ids, or options such as --network and --code, or else --all; "
            "`moorage dead list` takes the same options and shows them",
        )


def _ago(option: str, age: str | None, now: datetime) -> datetime | None:
    return None if age is None else now - timedelta(seconds=seconds(option, age))
