"""What changes have in common: whom they are made for, which version they mean, the question before some."""

import getpass
import sys
from typing import Annotated

import typer
from rich.text import Text

from console.output import printable, say, stderr
from schemas.errors import Code, ServiceError


def _or_login_name(actor: str | None) -> str | None:
    """`actor`, else the local user; None where this user has no name here."""
    if actor:
        return actor
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return None


ActorOption = Annotated[
    str | None,
    typer.Option(
        "--actor",
        metavar="NAME",
        envvar="MOORAGE_ACTOR",
        callback=_or_login_name,
        help="whom history names as having asked (default: your login name)",
    ),
]
ExpectedVersionOption = Annotated[
    int | None,
    typer.Option("--expected-version", metavar="N", help="refuse unless this is still its version"),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="do it without asking")]


def has_to_ask(yes: bool) -> bool:
    """Whether a person has to agree first. Raises `invalid_request` where there is no terminal to ask on."""
    if yes:
        return False
    if sys.stdin is None or not sys.stdin.isatty():
        raise ServiceError(
            Code.INVALID_REQUEST,
            "this asks for a yes, and its input is no terminal: look twice, then add --yes",
        )
    return True


def confirm(question: str) -> None:
    """Ask on the terminal; anything but a yes ends the command with nothing changed."""
    stderr().print(Text(f"{printable(question)} [y/N]: "), end="", soft_wrap=True)
    try:
        agreed = sys.stdin.readline().strip().lower() in {"y", "yes"}
    except KeyboardInterrupt:
        raise typer.Abort from None
    if not agreed:
        say("Nothing was changed.")
        raise typer.Exit(1)
