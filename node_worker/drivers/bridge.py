"""The bridge driver: a Linux bridge for each network, a veth pair for each endpoint."""

from collections.abc import Collection
from ipaddress import ip_interface

from node_worker.attachments import Attachment
from node_worker.checking import Found
from node_worker.netlink import bridge, masquerade, parents, veth
from node_worker.netlink.namespace import Netns
from node_worker.plan import IPInterface, LinkPlan, bridge_name
from schemas.drivers import BridgeDriver as Settings
from schemas.fields import IPAddress
from schemas.network import NetworkDefinition


class BridgeDriver:
    """Wires the one host namespace it is given."""

    shows_on_host = True

    def __init__(self, host: Netns) -> None:
        self._host = host

    def ensure(self, network: str, definition: NetworkDefinition, peers: Collection[IPAddress]) -> None:  # noqa: ARG002
        """See `Driver`; `netlink.bridge.ensure_bridge` and `netlink.parents.ensure_vlan` name the errors."""
        settings = definition.driver
        if isinstance(settings, Settings) and settings.uplink and settings.vlan:
            parents.ensure_vlan(self._host, settings.uplink, settings.vlan, definition.mtu)
        bridge.ensure_bridge(self._host, _wanted(network, definition))
        if isinstance(settings, Settings) and settings.masquerade:
            subnets = [subnet.cidr for subnet in definition.subnets]
            masquerade.ensure_masquerade(self._host, network, subnets)

    def mend(self, network: str, endpoints: Collection[Attachment]) -> None:
        """See `Driver`: pods are ports of the bridge again."""
        bridge.adopt_ports(self._host, bridge_name(network), [row.host_link for row in endpoints])

    def remove(self, network: str, definition: NetworkDefinition) -> None:
        """See `Driver`."""
        settings = definition.driver
        if isinstance(settings, Settings) and settings.masquerade:
            masquerade.remove_masquerade(self._host, network)
        bridge.remove_bridge(self._host, _wanted(network, definition))
        if isinstance(settings, Settings) and settings.uplink and settings.vlan:
            parents.remove_vlan(self._host, settings.uplink, settings.vlan)

    def prepare(self, plan: LinkPlan, pod: Netns, definition: NetworkDefinition) -> veth.PreparedVeth:  # noqa: ARG002
        """See `Driver`; `netlink.veth.prepare_veth` names the errors."""
        return veth.prepare_veth(self._host, pod, plan)

    def inspect(self, attachment: Attachment, pod: Netns) -> Found:
        """See `Driver`."""
        outer, port_of = veth.look_outside(self._host, attachment.host_link)
        inner, addresses, routes = veth.look_inside(pod, attachment.ifname)
        return Found(
            mac=inner.mac if inner is not None else None,
            up=inner is not None and inner.up,
            addresses=tuple(addresses),
            routes=tuple(routes),
            host_link=outer is not None,
            host_up=outer is not None and outer.up,
            bridge=port_of,
        )

    def cut(self, attachment: Attachment) -> None:
        """See `Driver`."""
        veth.cut_veth(self._host, attachment.host_link)

    def detach(self, attachment: Attachment) -> None:
        """See `Driver`."""
        veth.remove_veth(self._host, attachment.host_link)


def _wanted(network: str, definition: NetworkDefinition) -> bridge.Bridge:
    uplink, settings = None, definition.driver
    gateways: tuple[IPInterface, ...] = ()
    if isinstance(settings, Settings) and settings.uplink:
        uplink = parents.carrier(settings.uplink, settings.vlan)
    if isinstance(settings, Settings) and settings.gateway:
        gateways = tuple(
            ip_interface(f"{subnet.gateway}/{subnet.cidr.prefixlen}") for subnet in definition.subnets
        )
    return bridge.Bridge(bridge_name(network), network, definition.mtu, uplink, gateways)
