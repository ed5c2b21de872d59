"""The vxlan driver: a bridge and a tunnel device on every node, a veth pair for each endpoint.

The device learns behind which node a pod is from what it hears (RFC 7348, section 4.1); what is for
everybody, and for whom it does not know yet, it sends to every node. That is what limits it to some 500.
"""

from collections.abc import Callable, Collection

from node_worker.drivers.bridge import BridgeDriver
from node_worker.netlink import vxlan
from node_worker.netlink.namespace import Netns
from node_worker.plan import bridge_name, tunnel_name
from schemas.drivers import VxlanDriver as Settings
from schemas.errors import Code, ServiceError
from schemas.fields import IPAddress
from schemas.network import NetworkDefinition


class VxlanDriver(BridgeDriver):
    """Wires the one host namespace it is given; `local` tells where this node's tunnels end."""

    def __init__(self, host: Netns, local: Callable[[], IPAddress | None]) -> None:
        super().__init__(host)
        self._local = local

    def ensure(self, network: str, definition: NetworkDefinition, peers: Collection[IPAddress]) -> None:
        """See `Driver`; `netlink.vxlan.ensure_tunnel` names the errors."""
        settings, local = definition.driver, self._local()
        if local is None or not isinstance(settings, Settings):
            raise ServiceError(
                Code.UPLINK_MISSING,
                "this node has no address where tunnels could end: set MOORAGE_NODE_ADDRESS to one that the "
                "other nodes reach",
            )
        tunnel = vxlan.Tunnel(
            name=tunnel_name(network),
            network=network,
            bridge=bridge_name(network),
            vni=settings.vni,
            port=settings.port,
            mtu=definition.mtu,
            local=local,
        )
        vxlan.check_room(self._host, tunnel)  # before anything is made or changed
        super().ensure(network, definition, peers)
        vxlan.ensure_tunnel(self._host, tunnel, peers)

    def remove(self, network: str, definition: NetworkDefinition) -> None:
        """See `Driver`."""
        vxlan.remove_tunnel(self._host, tunnel_name(network), network)
        super().remove(network, definition)
