"""Changing which owners a network or a pool allows: some patterns, everybody, or as it is."""

from typing import Annotated

import typer

from schemas.errors import Code, ServiceError

OwnersOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="who is allowed from now on, such as 'shop/web-*'; repeat for more; replaces all there were",
    ),
]
EverybodyOption = Annotated[bool, typer.Option("--everybody", help="allow everybody from now on")]


def new_owners(owner: list[str] | None, everybody: bool) -> tuple[str, ...] | None:
    """The patterns allowed from now on; empty for everybody, None for no change.

    Raises `invalid_request` where both are asked for.
    """
    if owner and everybody:
        raise ServiceError(Code.INVALID_REQUEST, "say --owner or --everybody: one of the two")
    if everybody:
        return ()
    return tuple(owner) if owner else None
