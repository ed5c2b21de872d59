"""`moorage address reserve|rebind|release`."""

from typing import Annotated
from uuid import uuid4

import typer

from console.address_table import draw_address, draw_addresses
from console.changes import ActorOption, YesOption, confirm, has_to_ask
from console.output import OutputOption, say, show, stderr
from console.session import EXIT_CODES, RequestIdOption, Session, asking
from schemas.address import (
    AddressRebind,
    AddressReleaseByOperator,
    AddressReserve,
    AddressShow,
    AddressView,
    OwnerAddresses,
)

_Network = Annotated[str, typer.Argument(metavar="NETWORK", help="the network's name")]
_Owner = Annotated[str, typer.Argument(metavar="OWNER", help="such as shop/web-0")]
_Ifname = Annotated[str, typer.Option(metavar="NAME", help="which of the owner's interfaces")]
_Wished = Annotated[
    list[str] | None,
    typer.Option(
        "--address", metavar="ADDRESS", help="this one; repeat for the other family (default: any free one)"
    ),
]
_New = Annotated[
    list[str],
    typer.Option("--address", metavar="ADDRESS", help="its new address; repeat for the other family"),
]
_Pool = Annotated[
    str | None, typer.Option(help="a pinned pool (default: the one that fits addresses or owner)")
]
_Address = Annotated[str, typer.Argument(metavar="ADDRESS", help="such as 10.20.0.10")]
_Reason = Annotated[str, typer.Option(metavar="TEXT", help="why; history keeps it")]
_ExpectedOwner = Annotated[
    str | None, typer.Option(metavar="OWNER", help="refuse when somebody else has it by now")
]
_Force = Annotated[
    bool,
    typer.Option(
        "--force", help="although it is attached: its pod is known to be gone. Withheld until released again"
    ),
]


def register(group: typer.Typer) -> None:
    """Add the commands to `group`."""
    for command in (reserve, rebind, release):
        group.command(command.__name__, epilog=EXIT_CODES)(command)


def reserve(  # noqa: PLR0913, PLR0917  one argument for each option
    ctx: typer.Context,
    network: _Network,
    owner: _Owner,
    address: _Wished = None,
    pool: _Pool = None,
    ifname: _Ifname = "eth0",
    actor: ActorOption = None,
    request_id: RequestIdOption = None,
    output: OutputOption = "table",
) -> None:
    """Pin addresses to an owner before its pod exists: one of each family of the network.

    An owner that has these addresses already is a success.
    """
    attempt = request_id or str(uuid4())
    with asking(ctx, output, request_id=attempt) as session:
        request = AddressReserve(
            request_id=attempt,
            actor=actor,
            network=network,
            owner=owner,
            ifname=ifname,
            pool=pool,
            addresses=tuple(address or ()),
        )
        answer = session.ask(request, OwnerAddresses)
        show(answer, output, lambda console, had: draw_addresses(console, had.addresses))


def rebind(
    ctx: typer.Context,
    network: _Network,
    owner: _Owner,
    address: _New,
    ifname: _Ifname = "eth0",
    actor: ActorOption = None,
    request_id: RequestIdOption = None,
    output: OutputOption = "table",
) -> None:
    """Move an owner to other addresses in one step.

    A running pod keeps what it has until it is deleted; the next one comes up with the new addresses.
    """
    attempt = request_id or str(uuid4())
    with asking(ctx, output, request_id=attempt) as session:
        request = AddressRebind(
            request_id=attempt,
            actor=actor,
            network=network,
            owner=owner,
            ifname=ifname,
            addresses=tuple(address),
        )
        answer = session.ask(request, OwnerAddresses)
        show(answer, output, lambda console, had: draw_addresses(console, had.addresses))
        say(_when_it_moves(answer, owner))


def release(  # noqa: PLR0913, PLR0917  one argument for each option
    ctx: typer.Context,
    network: _Network,
    address: _Address,
    reason: _Reason,
    expected_owner: _ExpectedOwner = None,
    force: _Force = False,
    yes: YesOption = False,
    actor: ActorOption = None,
    request_id: RequestIdOption = None,
    output: OutputOption = "table",
) -> None:
    """Take an address from the owner it waits for, or end its quarantine.

    At a terminal, it first shows who has the address, and releases it only from that owner.
    """
    attempt = request_id or str(uuid4())
    with asking(ctx, output, request_id=attempt) as session:
        request = AddressReleaseByOperator(
            request_id=attempt,
            actor=actor,
            network=network,
            address=address,
            reason=reason,
            expected_owner=expected_owner,
            force=force,
        )
        if has_to_ask(yes):
            request = _agreed(session, request)
        view = session.ask(request, AddressView)
        show(view, output, draw_address)
        if view.state == "quarantined":
            say(f"{view.address} is withheld: once its pod is certain to be gone, release it once more.")


def _agreed(session: Session, request: AddressReleaseByOperator) -> AddressReleaseByOperator:
    """`request` for the owner that a person saw and agreed to; ends the command without a yes."""
    view = session.ask(AddressShow(network=request.network, address=request.address), AddressView)
    draw_address(stderr(), view)
    confirm(_question(view, force=request.force))
    if request.expected_owner is not None or view.owner is None:
        return request
    session.repeating += ["--expected-owner", view.owner]
    return request.model_copy(update={"expected_owner": view.owner})


def _question(view: AddressView, *, force: bool) -> str:
    if force and view.state == "attached":
        pod = f"the pod of {view.owner} on {view.node}"
        return f"Nothing checks that {pod} is gone. Take {view.address} from it?"
    if view.state == "waiting":
        return f"Its next pod will get another address. Take {view.address} from {view.owner}?"
    if view.state == "quarantined":
        return f"If somebody still uses {view.address}, two will. End its quarantine?"
    return f"Release {view.address}?"


def _when_it_moves(answer: OwnerAddresses, owner: str) -> str:
    attached = [view for view in answer.addresses if view.state == "attached"]
    if attached:
        nodes = ", ".join(sorted({view.node for view in attached if view.node is not None}))
        return (
            f"{owner} is running on {nodes}: its pod keeps its address until it is deleted; the next one "
            "comes up with the new address."
        )
    return f"If a pod of {owner} is running, it keeps its address until it is deleted."
