"""`moorage network create|update|delete`: jobs that the nodes carry out, with a bar over them."""

from typing import Annotated, Any, Literal
from uuid import uuid4

import typer

from console.changes import ActorOption, ExpectedVersionOption, YesOption, confirm, has_to_ask
from console.network_table import draw_network
from console.output import OutputOption, say, show
from console.owners import EverybodyOption, OwnersOption, new_owners
from console.session import EXIT_CODES, RequestIdOption, Session, asking
from schemas.drivers import DriverType
from schemas.errors import Code, ServiceError
from schemas.network import NetworkCreate, NetworkDelete, NetworkShow, NetworkUpdate, NetworkView

_ROLLBACK_S = 20
"""A failed create is answered when the nodes have taken it back: up to so many seconds after the deadline."""

_SETTLING_S = 5
"""An update is answered at its deadline, in whatever state the nodes are: up to so many seconds later."""

_Network = Annotated[str, typer.Argument(metavar="NAME", help="the network's name")]
_Subnets = Annotated[
    list[str],
    typer.Option(
        metavar="CIDR",
        help="with or without its gateway: 10.20.0.0/24,gateway=10.20.0.1; repeat for more",
    ),
]
_NewSubnets = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CIDR",
        help="a further subnet, with or without its gateway: 10.21.0.0/24,gateway=10.21.0.1; repeat for more",
    ),
]
_Uplink = Annotated[
    str | None, typer.Option(help="the nodes' interface that joins the network, such as eth1")
]
_Mtu = Annotated[
    int | None, typer.Option(help="largest packet, in bytes (default: 1500, or 1450 through tunnels)")
]
_NewMtu = Annotated[
    int | None, typer.Option(help="largest packet, in bytes; pods that run keep what they began with")
]
_Owners = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="who may have addresses, such as 'shop/*'; repeat for more (default: everybody)",
    ),
]
_Driver = Annotated[DriverType, typer.Option(help="how nodes make the network")]
_Parent = Annotated[
    str | None, typer.Option(help="macvlan, ipvlan: the nodes' interface that pods are beside, such as eth1")
]
_Vlan = Annotated[int | None, typer.Option(help="which VLAN of the uplink or parent, 1 to 4094")]
_Vni = Annotated[int | None, typer.Option(help="vxlan: the network's number in the tunnels")]
_Port = Annotated[int | None, typer.Option(help="vxlan: the tunnels' UDP port (default: 4789)")]
_Mode = Annotated[
    Literal["bridge", "private", "vepa"] | None, typer.Option(help="macvlan: how pods of a node meet")
]
_HostAccess = Annotated[
    bool | None,
    typer.Option(
        "--host-access/--no-host-access",
        help="macvlan, ipvlan: a second link between each pod and its own node (default: yes)",
    ),
]
_Services = Annotated[
    list[str] | None,
    typer.Option(
        "--service-cidr",
        metavar="CIDR",
        help="macvlan, ipvlan: what pods reach through their node, such as 10.96.0.0/12; repeat for more",
    ),
]
_Gateway = Annotated[
    bool, typer.Option("--gateway-on-node", help="bridge: put the subnets' gateways on each node's bridge")
]
_Masquerade = Annotated[
    bool, typer.Option("--masquerade", help="bridge: let pods reach out through the node's own address")
]
_Probe = Annotated[
    bool | None,
    typer.Option(
        "--probe/--no-probe",
        help="ask the segment before an address is used (default: on an uplink, macvlan and ipvlan)",
    ),
]
_Deadline = Annotated[float, typer.Option(help="how long the nodes have, in seconds")]
_KeepGoing = Annotated[
    bool, typer.Option("--keep-going", help="keep it on the nodes that can make it; the others try again")
]
_Force = Annotated[
    bool, typer.Option("--force", help="release addresses that are attached or wait for their owners")
]
_Reason = Annotated[str | None, typer.Option(metavar="TEXT", help="why; history keeps it")]


def register(group: typer.Typer) -> None:
    """Add the commands to `group`."""
    for command in (create, update, delete):
        group.command(command.__name__, epilog=EXIT_CODES)(command)


def create(  # noqa: PLR0913, PLR0917  one argument for each option
    ctx: typer.Context,
    network: _Network,
    subnet: _Subnets,
    driver: _Driver = "bridge",
    uplink: _Uplink = None,
    parent: _Parent = None,
    vlan: _Vlan = None,
    mode: _Mode = None,
    vni: _Vni = None,
    port: _Port = None,
    host_access: _HostAccess = None,
    service_cidr: _Services = None,
    gateway_on_node: _Gateway = False,
    masquerade: _Masquerade = False,
    probe: _Probe = None,
    mtu: _Mtu = None,
    owner: _Owners = None,
    keep_going: _KeepGoing = False,
    deadline: _Deadline = 30,
    actor: ActorOption = None,
    request_id: RequestIdOption = None,
    output: OutputOption = "table",
) -> None:
    """Create a network on every ready node and wait until each has reported.

    If one node refuses, the network is taken back from all nodes; with --keep-going it stays on the others,
    and this ends with exit code 1.

    A network that exists already with the same definition is a success.
    """
    attempt = request_id or str(uuid4())
    with asking(ctx, output, request_id=attempt) as session:
        settings: dict[str, Any] = {
            "uplink": uplink,
            "parent": parent,
            "vlan": vlan,
            "mode": mode,
            "vni": vni,
            "port": port,
        }
        settings |= {"host_access": host_access, "services": service_cidr or None}
        settings |= {"gateway": gateway_on_node or None, "masquerade": masquerade or None}
        body = {
            "request_id": attempt,
            "actor": actor,
            "network": network,
            "driver": {"type": driver}
            | {name: value for name, value in settings.items() if value is not None},
            "subnets": tuple(_subnet("--subnet", text) for text in subnet),
            "owners": tuple(owner or ()),
            "keep_going": keep_going,
            "deadline_s": deadline,
        } | {name: value for name, value in (("mtu", mtu), ("probe", probe)) if value is not None}
        request = NetworkCreate.model_validate(body, extra="forbid")  # a driver has not all of the options
        view = session.ask_nodes(
            request,
            network,
            longer_s=deadline + _ROLLBACK_S,
            doing=f"Waiting for the nodes to make network {network}, {deadline:g} s at most",
        )
        show(view, output, draw_network)
        if keep_going:
            _tell_who_lags(view)


def update(  # noqa: PLR0913, PLR0917  one argument for each option
    ctx: typer.Context,
    network: _Network,
    add_subnet: _NewSubnets = None,
    mtu: _NewMtu = None,
    owner: OwnersOption = None,
    everybody: EverybodyOption = False,
    deadline: _Deadline = 30,
    expected_version: ExpectedVersionOption = None,
    actor: ActorOption = None,
    request_id: RequestIdOption = None,
    output: OutputOption = "table",
) -> None:
    """Change a network: further subnets, its MTU, whom it allows. Waits until each ready node has reported.

    Addresses that owners hold stay theirs. The network stays active on every node: where one fails, it
    tries again by itself, and this ends with exit code 1.
    """
    attempt = request_id or str(uuid4())
    with asking(ctx, output, request_id=attempt) as session:
        request = NetworkUpdate(
            request_id=attempt,
            actor=actor,
            network=network,
            expected_version=expected_version,
            add_subnets=tuple(_subnet("--add-subnet", text) for text in add_subnet or ()),
            mtu=mtu,
            owners=new_owners(owner, everybody),
            deadline_s=deadline,
        )
        view = session.ask_nodes(
            request,
            network,
            longer_s=deadline + _SETTLING_S,
            doing=f"Waiting for the nodes to follow network {network}, {deadline:g} s at most",
        )
        show(view, output, draw_network)
        _tell_who_lags(view)


def delete(  # noqa: PLR0913, PLR0917  one argument for each option
    ctx: typer.Context,
    network: _Network,
    force: _Force = False,
    reason: _Reason = None,
    yes: YesOption = False,
    deadline: _Deadline = 30,
    expected_version: ExpectedVersionOption = None,
    actor: ActorOption = None,
    request_id: RequestIdOption = None,
    output: OutputOption = "table",
) -> None:
    """Take a network away from every node, with its pools, and wait until each ready node has reported.

    It is refused while addresses are attached or wait for their owners. With --force these are released:
    pods that run on it lose their interface. History stays.
    """
    attempt = request_id or str(uuid4())
    with asking(ctx, output, request_id=attempt) as session:
        must_ask = has_to_ask(yes)
        request = NetworkDelete(
            request_id=attempt,
            actor=actor,
            network=network,
            expected_version=expected_version,
            force=force,
            reason=reason,
            deadline_s=deadline,
        )
        if must_ask:
            _ask_about(session, network, force=force)
        view = session.ask_nodes(
            request,
            network,
            longer_s=deadline + _SETTLING_S,
            doing=f"Waiting for the nodes to remove network {network}, {deadline:g} s at most",
        )
        show(view, output, draw_network)
        _tell_who_keeps(view)


def _ask_about(session: Session, network: str, *, force: bool) -> None:
    view = session.ask(NetworkShow(network=network, with_nodes=False), NetworkView)
    lost = f", and take {view.used} used addresses from whoever has them" if force and view.used else ""
    confirm(f"Delete network {network} from {sum(view.node_counts.values())} nodes{lost}?")


def _tell_who_keeps(view: NetworkView) -> None:
    """What is still to be removed after a delete; exit code 1 where a node that is there failed."""
    if view.state == "deleted":
        away = sum(result.state == "ready" for result in view.nodes)
        if away:
            say(f"{away} nodes are away, and remove it when they are back.")
        return
    failed = sum(result.state == "error" for result in view.nodes)
    say(
        f"Network {view.network} is still being deleted: {failed} nodes failed to remove it and try again, "
        f"{view.node_counts.get('pending', 0)} have not reported. Mend what their errors name; its name is "
        f"free once all have removed it (`moorage network show {view.network}`).",
        style="red",
    )
    raise typer.Exit(1)


def _tell_who_lags(view: NetworkView) -> None:
    """What to do about nodes that have not followed; exit code 1 where one failed."""
    states = [result.state for result in view.nodes]
    failed, late = states.count("error"), states.count("pending")
    if late:
        say(f"{late} of {len(states)} nodes have not reported yet. They follow as soon as they are back.")
    if view.state == "failed":
        say(
            f"No node could make network {view.network}: it is kept, and gives out no addresses. Mend what "
            "their errors name: they try again by themselves, and it is active with the first that has it.",
            style="red",
        )
        raise typer.Exit(1)
    if failed:
        say(
            f"Network {view.network} stays {view.state}, but {failed} of {len(states)} nodes failed to "
            "follow. Mend what their errors name: they try again by themselves. "
            f"`moorage network show {view.network}` tells when all are ready.",
            style="red",
        )
        raise typer.Exit(1)


def _subnet(option: str, text: str) -> dict[str, Any]:
    """`CIDR[,gateway=ADDRESS]` as a subnet's fields; their values are checked by the request."""
    cidr, *settings = text.split(",")
    fields = {"cidr": cidr.strip()}
    for setting in settings:
        name, _, value = setting.partition("=")
        if name.strip() != "gateway" or "gateway" in fields:
            raise ServiceError(
                Code.INVALID_REQUEST,
                f"{option} {text}: write CIDR or CIDR,gateway=ADDRESS: 10.20.0.0/24,gateway=10.20.0.1",
            )
        fields["gateway"] = value.strip()
    return fields
