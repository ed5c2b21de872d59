"""The tunnel device of a network: a port of its bridge that leads to all other nodes (RFC 7348)."""

from collections.abc import Collection
from dataclasses import dataclass

from node_worker.netlink.namespace import Netns
from node_worker.netlink.session import Link, Session, inside, switch_off_ipv6
from schemas.drivers import VXLAN_OVERHEAD
from schemas.errors import Code, ServiceError
from schemas.fields import IPAddress


@dataclass(frozen=True, slots=True)
class Tunnel:
    """What the tunnel device of a network has to be. `local` is this node's end, `mtu` is in bytes."""

    name: str
    network: str
    bridge: str
    vni: int
    port: int
    mtu: int
    local: IPAddress

    @property
    def alias(self) -> str:
        """How the link says whose it is."""
        return f"moorage tunnel of network {self.network}"


def ensure_tunnel(host: Netns, tunnel: Tunnel, peers: Collection[IPAddress]) -> None:
    """Make `tunnel` exist, be up and lead to `peers` and nobody else. Safe to call twice.

    A device that is not as it has to be is made anew. Raises ServiceError: `link_conflict` (a foreign link
    has the name), `kernel_refused`.
    """
    with inside(host) as links:
        found = links.find(tunnel.name)
        if found is not None and not _is_ours(found, tunnel):
            raise _foreign(found, tunnel)
        if found is not None and links.tunnel(found.index) != _facts(tunnel):
            links.remove(tunnel.name)
            found = None
        if found is None:
            links.add_tunnel(tunnel.name, tunnel.vni, tunnel.local, tunnel.port, tunnel.mtu)
            switch_off_ipv6(tunnel.name)  # it is a port, and no host of any network
        made, bridge = links.find(tunnel.name), links.find(tunnel.bridge)
        if made is None or bridge is None:
            raise _vanished(tunnel)
        if made.mtu != tunnel.mtu or made.alias != tunnel.alias:
            links.change(tunnel.name, mtu=tunnel.mtu, ifalias=tunnel.alias)
        if made.master != bridge.index:
            links.change(tunnel.name, master=bridge.index)
        _lead_to(links, made.index, {peer for peer in peers if peer != tunnel.local}, tunnel.local.version)
        if not made.up:
            links.change(tunnel.name, state="up")


def remove_tunnel(host: Netns, tunnel_name: str, network: str) -> None:
    """Remove the tunnel device. Safe to call twice; a foreign link of its name stays."""
    with inside(host) as links:
        found = links.find(tunnel_name)
        if found is not None and found.kind == "vxlan" and found.alias in (None, _alias(network)):
            links.remove(tunnel_name)


def _lead_to(links: Session, index: int, peers: Collection[IPAddress], version: int) -> None:
    """Frames for everybody, and for whom no node is known yet, go to each of `peers` (bridge(8), fdb)."""
    wanted = {peer for peer in peers if peer.version == version}  # one device has one underlay family
    present = links.peers(index)
    for peer in wanted - present:
        links.add_peer(index, peer)
    for peer in present - wanted:
        links.remove_peer(index, peer)


def check_room(host: Netns, tunnel: Tunnel) -> None:
    """See that the node has the tunnels' end, and room in its packets.

    Raises ServiceError: `uplink_missing` (the node does not have the address), `link_conflict` (the MTU).
    """
    with inside(host) as links:
        carrier = links.carrying(tunnel.local)
    if carrier is None:
        raise ServiceError(
            Code.UPLINK_MISSING,
            f"this node has no address {tunnel.local}, where its tunnels are to end: set "
            "MOORAGE_NODE_ADDRESS to one that the other nodes reach",
            address=str(tunnel.local),
        )
    needed = tunnel.mtu + VXLAN_OVERHEAD[tunnel.local.version]
    if carrier.mtu < needed:
        room = carrier.mtu - VXLAN_OVERHEAD[tunnel.local.version]
        raise ServiceError(
            Code.LINK_CONFLICT,
            f"network {tunnel.network} asks for MTU {tunnel.mtu}, and the tunnels of this node go through "
            f"{carrier.name} with MTU {carrier.mtu}, which leaves {room}: lower the network's, or raise that "
            f"of {carrier.name} on all nodes to {needed}",
            link=carrier.name,
            mtu=carrier.mtu,
        )


def _facts(tunnel: Tunnel) -> tuple[int, str, int]:
    return tunnel.vni, str(tunnel.local), tunnel.port


def _alias(network: str) -> str:
    return f"moorage tunnel of network {network}"


def _is_ours(found: Link, tunnel: Tunnel) -> bool:
    # One without an alias: maybe the worker was killed before it named it.
    return found.kind == "vxlan" and found.alias in (None, tunnel.alias)


def _foreign(found: Link, tunnel: Tunnel) -> ServiceError:
    told = f", alias {found.alias!r}" if found.alias is not None else ""
    return ServiceError(
        Code.LINK_CONFLICT,
        f"this node has a link {found.name} ({found.kind or 'no kind'}{told}) that is not the tunnel of "
        f"network {tunnel.network}: rename or remove it, or give the network another name",
        link=found.name,
    )


def _vanished(tunnel: Tunnel) -> ServiceError:
    return ServiceError(
        Code.LINK_CONFLICT,
        f"somebody removes links of network {tunnel.network} on this node while they are made",
        retryable=True,
        network=tunnel.network,
    )
