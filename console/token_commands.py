"""`moorage token create|list|revoke`: who may come to the console's REST API and page."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Protocol

import typer
from rich.console import Console

from console.access.identity import Role
from console.access.tokens import Token, Tokens
from console.failure import show_failure
from console.output import Column, OutputOption, draw_rows, emit, say, stdout
from schemas.errors import ServiceError

HELP = "Tokens for the console's REST API and page: create, list, revoke."

_Name = Annotated[str, typer.Argument(metavar="NAME", help="who it is for: history names it as the actor")]
_RoleOption = Annotated[Role, typer.Option(help="viewer sees all; tenant its namespaces; operator does all")]
_Namespaces = Annotated[
    list[str] | None,
    typer.Option("--namespace", metavar="NAME", help="tenant: its namespace; repeat for more"),
]
_Days = Annotated[int | None, typer.Option("--days", min=1, max=3650, help="how long it is valid")]


class TokenSettings(Protocol):
    """What typer's `ctx.obj` must have."""

    @property
    def tokens_file(self) -> Path:
        """Where the tokens' hashes are."""
        ...


def register(group: typer.Typer) -> None:
    """Add the commands to `group`."""
    for command in (create, list_, revoke):
        group.command(command.__name__.rstrip("_"))(command)


def create(
    ctx: typer.Context,
    name: _Name,
    role: _RoleOption = "viewer",
    namespace: _Namespaces = None,
    days: _Days = None,
    output: OutputOption = "table",
) -> None:
    """Make a token and print it, this once: its hash alone is kept. Consoles that run take it at once."""
    try:
        valid_for = None if days is None else timedelta(days=days)
        token = _tokens(ctx).create(name, role, tuple(namespace or ()), valid_for)
    except ServiceError as error:
        show_failure(error, output)
        raise typer.Exit(2) from error
    if output == "json":
        emit({"name": name, "role": role, "namespaces": sorted(set(namespace or ())), "token": token})
        return
    say(f"The token of {name}, a {role}. It is shown this once:")
    typer.echo(token)


def list_(ctx: typer.Context, output: OutputOption = "table") -> None:
    """List all tokens: whom each is for and what it may, never the token."""
    try:
        found = list(_tokens(ctx).all().values())
    except ServiceError as error:
        show_failure(error, output)
        raise typer.Exit(2) from error
    if output == "json":
        emit({"tokens": [token.model_dump(mode="json", exclude={"sha256"}) for token in found]})
        return
    if not found:
        say("There is no token yet: `moorage token create NAME --role operator` makes one.")
        return
    _draw(stdout(), found)


def revoke(ctx: typer.Context, name: _Name, output: OutputOption = "table") -> None:
    """Forget a token. From the next request on it opens nothing, and who signed in with it is signed out."""
    try:
        _tokens(ctx).revoke(name)
    except ServiceError as error:
        show_failure(error, output)
        raise typer.Exit(2) from error
    if output == "json":
        emit({"revoked": name})
    else:
        say(f"The token of {name} opens nothing any more.")


def _tokens(ctx: typer.Context) -> Tokens:
    settings: TokenSettings = ctx.obj
    return Tokens(settings.tokens_file)


def _expiry(token: Token) -> str:
    if token.expires_at is None:
        return "never"
    day = f"{token.expires_at:%Y-%m-%d}"
    return f"{day}, over" if token.expired(datetime.now(UTC)) else day


_COLUMNS: tuple[Column[Token], ...] = (
    Column("NAME", lambda token: token.name),
    Column("ROLE", lambda token: token.role),
    Column("NAMESPACES", lambda token: ", ".join(token.namespaces), folds=True, rank=1),
    Column("CREATED", lambda token: f"{token.created_at:%Y-%m-%d}", rank=2),
    Column("EXPIRES", _expiry),
)


def _draw(console: Console, tokens: list[Token]) -> None:
    draw_rows(console, _COLUMNS, tokens)
