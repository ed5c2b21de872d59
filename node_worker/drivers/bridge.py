"""The bridge driver: a Linux bridge for each network, a veth pair for each endpoint."""

from node_worker.attachments import Attachment
from node_worker.checking import Found
from node_worker.netlink import bridge, veth
from node_worker.netlink.namespace import Netns
from node_worker.plan import LinkPlan, bridge_name
from schemas.network import NetworkDefinition


class BridgeDriver:
    """Wires the one host namespace it is given."""

    def __init__(self, host: Netns) -> None:
        self._host = host

    def ensure(self, network: str, definition: NetworkDefinition) -> None:
        """See `Driver`; `netlink.bridge.ensure_bridge` names the errors."""
        bridge.ensure_bridge(self._host, _wanted(network, definition))

    def remove(self, network: str, definition: NetworkDefinition) -> None:
        """See `Driver`."""
        bridge.remove_bridge(self._host, _wanted(network, definition))

    def prepare(self, plan: LinkPlan, pod: Netns) -> veth.PreparedVeth:
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
    return bridge.Bridge(
        name=bridge_name(network), network=network, mtu=definition.mtu, uplink=definition.driver.uplink
    )
