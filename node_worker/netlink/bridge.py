"""The bridge that stands for a network on a host, and the uplink that joins it."""

import errno
import secrets
from collections.abc import Collection
from dataclasses import dataclass

from node_worker.netlink.batch import RoutingSocket, join_bridge
from node_worker.netlink.namespace import Netns
from node_worker.netlink.session import (
    Link,
    Refused,
    Session,
    inside,
    link_index,
    named_links,
    switch_off_ipv6,
    write_sysctl,
)
from node_worker.plan import IPInterface
from schemas.errors import Code, ServiceError

# No spanning tree and no delay: a port forwards at once. Snooping off: without a querier and with pods that
# come and go, neighbour discovery must not depend on membership reports.
_SETTINGS = {"br_stp_state": 0, "br_forward_delay": 0, "br_mcast_snooping": 0}


@dataclass(frozen=True, slots=True)
class Bridge:
    """What a network's bridge has to be. `mtu` in bytes; `gateways` are addresses of its own."""

    name: str
    network: str
    mtu: int
    uplink: str | None = None
    gateways: tuple[IPInterface, ...] = ()

    @property
    def alias(self) -> str:
        """How the link says whose it is."""
        return f"moorage network {self.network}"


def ensure_bridge(host: Netns, bridge: Bridge) -> None:
    """Make `bridge` and its uplink exist and be up. Safe to call twice.

    Raises ServiceError: `uplink_missing`, `uplink_in_use`, `link_conflict` (a foreign link has the name, or
    the uplink's MTU is too small), `kernel_refused`. A bridge that was not there is not made then.
    """
    with inside(host) as links:
        found = links.find(bridge.name)
        if found is not None:
            _check_ours(links, found, bridge)
        uplink = _usable_uplink(links, bridge, found) if bridge.uplink is not None else None
        if found is None:
            mac = ":".join(["0e", *(f"{byte:02x}" for byte in secrets.token_bytes(5))])
            # A MAC that was set does not follow the ports that come and go.
            links.add(bridge.name, "bridge", address=mac, mtu=bridge.mtu, **_SETTINGS)
            # The bridge is no host of its own network.
            switch_off_ipv6(bridge.name)
        else:
            links.change(bridge.name, kind="bridge", mtu=bridge.mtu, **_SETTINGS)
        links.change(bridge.name, ifalias=bridge.alias, state="up")
        if uplink is not None:
            try:
                _join(links, bridge, uplink)
            except ServiceError:
                if found is None:
                    links.remove(bridge.name)
                raise
        if bridge.gateways:
            _be_gateway(links, bridge)


def _join(links: Session, bridge: Bridge, uplink: Link) -> None:
    made = links.find(bridge.name)
    if made is not None and uplink.master != made.index:
        try:
            links.change(uplink.name, master=made.index)
        except Refused as refusal:
            if refusal.errno != errno.EBUSY:
                raise
            raise ServiceError(
                Code.UPLINK_IN_USE,
                f"interface {uplink.name} carries links that keep it from joining a bridge (macvlan, "
                "ipvlan): take another uplink, or delete the network that they are of",
                uplink=uplink.name,
            ) from refusal
    links.change(uplink.name, state="up")


def _be_gateway(links: Session, bridge: Bridge) -> None:
    made = links.find(bridge.name)
    if made is None:
        return
    if any(gateway.version == 6 for gateway in bridge.gateways):
        write_sysctl(f"net/ipv6/conf/{bridge.name}/accept_dad", 0)  # every node has the same gateway
        write_sysctl(f"net/ipv6/conf/{bridge.name}/disable_ipv6", 0)
    present = links.addresses(made.index)
    for gateway in bridge.gateways:
        if gateway not in present:
            links.add_address(made.index, gateway)


def adopt_ports(host: Netns, name: str, ports: Collection[str]) -> None:
    """Make links that are there ports of the bridge again: a bridge that is removed lets go of all it has."""
    with host.entered(), RoutingSocket() as kernel:
        bridge, there = link_index(name), set(named_links().values())
        if bridge is None:
            return
        astray = [port for port in ports if port in there and kernel.master(port) != bridge]
        if astray:
            kernel.do([join_bridge(port, bridge) for port in astray])


def remove_bridge(host: Netns, bridge: Bridge) -> None:
    """Remove `bridge`; its uplink is free again. Safe to call twice; a foreign link of its name stays."""
    with inside(host) as links:
        found = links.find(bridge.name)
        if found is not None and _is_ours(links, found, bridge):
            links.remove(bridge.name)


def _is_ours(links: Session, found: Link, bridge: Bridge) -> bool:
    if found.kind != "bridge":
        return False
    if found.alias is None:  # maybe the worker was killed before it named the bridge
        return not any(link.master == found.index for link in links.all())
    return found.alias == bridge.alias


def _check_ours(links: Session, found: Link, bridge: Bridge) -> None:
    if not _is_ours(links, found, bridge):
        told = f", alias {found.alias!r}" if found.alias is not None else ""
        raise ServiceError(
            Code.LINK_CONFLICT,
            f"this node has a link {found.name} ({found.kind or 'no kind'}{told}) that is not network "
            f"{bridge.network}'s: rename or remove it, or give the network another name",
            link=found.name,
        )


def _usable_uplink(links: Session, bridge: Bridge, found: Link | None) -> Link:
    name = bridge.uplink or ""
    uplink = links.find(name)
    if uplink is None or uplink.loopback:
        there = sorted(
            link.name
            for link in links.all()
            if not link.loopback
            and link.master is None
            and link.kind != "bridge"
            and all(address.is_link_local for address in links.addresses(link.index))
        )
        raise ServiceError(
            Code.UPLINK_MISSING,
            f"this node has no interface {name} that could be an uplink; free here: "
            f"{', '.join(there) or 'none'}",
            uplink=name,
        )
    if uplink.master is not None and (found is None or uplink.master != found.index):
        master = links.at(uplink.master)
        other = master.name if master is not None else str(uplink.master)
        raise ServiceError(
            Code.UPLINK_IN_USE,
            f"interface {name} already belongs to {other}{_told(master)}: take another uplink, or free it "
            f"(ip link set {name} nomaster)",
            uplink=name,
            bridge=other,
        )
    own = [str(address) for address in links.addresses(uplink.index) if not address.is_link_local]
    if own:
        raise ServiceError(
            Code.UPLINK_IN_USE,
            f"interface {name} carries the node's own {', '.join(own)}, which would be cut off: take an "
            "interface without addresses",
            uplink=name,
        )
    if uplink.mtu < bridge.mtu:
        raise ServiceError(
            Code.LINK_CONFLICT,
            f"network {bridge.network} asks for MTU {bridge.mtu} and uplink {name} has {uplink.mtu}: raise "
            f"the interface's (ip link set {name} mtu {bridge.mtu}) or lower the network's",
            uplink=name,
            mtu=uplink.mtu,
        )
    return uplink


def _told(link: Link | None) -> str:
    return f" ({link.alias})" if link is not None and link.alias else ""
