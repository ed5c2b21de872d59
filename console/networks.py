"""`moorage network create|list|show`."""

from typing import Annotated, Any, Literal
from uuid import uuid4

import typer
from rich.console import Console

from console.changes import ActorOption
from console.node_results import draw_node_results
from console.output import Column, OutputOption, draw_facts, draw_rows, say, show
from console.session import EXIT_CODES, LimitOption, RequestIdOption, asking
from schemas.errors import Code, ServiceError
from schemas.network import NetworkCreate, NetworkList, NetworkPage, NetworkShow, NetworkView

HELP = "Networks: create, list, show."

_ROLLBACK_S = 20
"""A failed create is answered when the nodes have taken it back: up to so many seconds after the deadline."""

_Network = Annotated[str, typer.Argument(metavar="NAME", help="the network's name")]
_Subnets = Annotated[
    list[str],
    typer.Option(
        metavar="CIDR",
        help="with or without its gateway: 10.20.0.0/24,gateway=10.20.0.1; repeat for more",
    ),
]
_Uplink = Annotated[
    str | None, typer.Option(help="the nodes' interface that joins the network, such as eth1")
]
_Mtu = Annotated[int, typer.Option(help="largest packet, in bytes")]
_Owners = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="who may have addresses, such as 'shop/*'; repeat for more (default: everybody)",
    ),
]
_Driver = Annotated[Literal["bridge"], typer.Option(help="how nodes make the network")]
_Deadline = Annotated[float, typer.Option(help="how long the nodes have, in seconds")]


def register(group: typer.Typer) -> None:
    """Add the commands to `group`."""
    for command in (create, list_, show_):
        group.command(command.__name__.rstrip("_"), epilog=EXIT_CODES)(command)


def create(  # noqa: PLR0913, PLR0917  one argument for each option
    ctx: typer.Context,
    network: _Network,
    subnet: _Subnets,
    uplink: _Uplink = None,
    mtu: _Mtu = 1500,
    owner: _Owners = None,
    driver: _Driver = "bridge",
    deadline: _Deadline = 30,
    actor: ActorOption = None,
    request_id: RequestIdOption = None,
    output: OutputOption = "table",
) -> None:
    """Create a network on every ready node and wait until each has reported.

    If one node refuses, the network is taken back from all nodes.

    A network that exists already with the same definition is a success.
    """
    attempt = request_id or str(uuid4())
    with asking(ctx, output, request_id=attempt) as session:
        request = NetworkCreate(
            request_id=attempt,
            actor=actor,
            network=network,
            driver={"type": driver, "uplink": uplink},
            subnets=tuple(_subnet(text) for text in subnet),
            mtu=mtu,
            owners=tuple(owner or ()),
            deadline_s=deadline,
        )
        view = session.ask(
            request,
            NetworkView,
            longer_s=deadline + _ROLLBACK_S,
            doing=f"Waiting for the nodes to make network {network}, {deadline:g} s at most",
        )
        show(view, output, _draw_one)


def list_(ctx: typer.Context, limit: LimitOption = None, output: OutputOption = "table") -> None:
    """List all networks by name."""
    with asking(ctx, output) as session:
        page = session.ask_pages(NetworkList(), NetworkPage, "networks", limit)
        show(page, output, _draw_page)


def show_(ctx: typer.Context, network: _Network, output: OutputOption = "table") -> None:
    """Show one network with its state node by node."""
    with asking(ctx, output) as session:
        show(session.ask(NetworkShow(network=network), NetworkView), output, _draw_one)


def _subnet(text: str) -> dict[str, Any]:
    """`CIDR[,gateway=ADDRESS]` as a subnet's fields; their values are checked by the request."""
    cidr, *settings = text.split(",")
    fields = {"cidr": cidr.strip()}
    for setting in settings:
        name, _, value = setting.partition("=")
        if name.strip() != "gateway" or "gateway" in fields:
            raise ServiceError(
                Code.INVALID_REQUEST,
                f"--subnet {text}: write CIDR or CIDR,gateway=ADDRESS: 10.20.0.0/24,gateway=10.20.0.1",
            )
        fields["gateway"] = value.strip()
    return fields


def _subnets(view: NetworkView) -> tuple[str, ...]:
    return tuple(
        str(subnet.cidr) + (f" gateway {subnet.gateway}" if subnet.gateway is not None else "")
        for subnet in view.definition.subnets
    )


def _driver(view: NetworkView) -> str:
    driver = view.definition.driver
    return driver.type + (f" on {driver.uplink}" if driver.uplink else "")


def _used(view: NetworkView) -> str:
    return f"{view.used} of {view.total}"


_COLUMNS: tuple[Column[NetworkView], ...] = (
    Column("NETWORK", lambda view: view.network),
    Column("STATE", lambda view: view.state),
    Column("SUBNETS", lambda view: tuple(subnet.cidr for subnet in view.definition.subnets), folds=True),
    Column("USED", _used),
    Column("DRIVER", _driver, rank=2),
    Column("OWNERS", lambda view: view.definition.owners or "everybody", rank=1, folds=True),
    Column("MTU", lambda view: view.definition.mtu, rank=3),
    Column("VERSION", lambda view: view.version, rank=4),
)


def _draw_page(console: Console, page: NetworkPage) -> None:
    if page.networks:
        draw_rows(console, _COLUMNS, page.networks)
    else:
        say("There are no networks yet. `moorage network create` makes one.")


def _draw_one(console: Console, view: NetworkView) -> None:
    facts = (
        ("network", view.network),
        ("state", view.state),
        ("version", view.version),
        ("driver", _driver(view)),
        ("subnets", _subnets(view)),
        ("mtu", view.definition.mtu),
        ("owners", view.definition.owners or "everybody"),
        ("used", _used(view)),
    )
    draw_facts(console, facts)
    if view.nodes:
        console.print()
        draw_node_results(console, view.nodes)
    else:
        say("No node has been asked for it yet: `moorage node list` shows which nodes are ready.")
