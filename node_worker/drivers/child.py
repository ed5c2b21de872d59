"""The macvlan and ipvlan drivers: a pod's interface is beside the node's own, with nothing on the host."""

from collections.abc import Collection

from node_worker.attachments import Attachment
from node_worker.checking import Found
from node_worker.drivers.inside import inside_alone
from node_worker.netlink import access, child, foreign, parents, veth
from node_worker.netlink.namespace import Netns
from node_worker.plan import LinkPlan
from schemas.drivers import IpvlanDriver, MacvlanDriver
from schemas.errors import Code, ServiceError
from schemas.fields import IPAddress
from schemas.network import NetworkDefinition


class ChildDriver:
    """Wires the one host namespace it is given with links of one kind."""

    shows_on_host = False

    def __init__(self, host: Netns, kind: child.Kind) -> None:
        self._host = host
        self._kind = kind

    def ensure(self, network: str, definition: NetworkDefinition, peers: Collection[IPAddress]) -> None:  # noqa: ARG002
        """See `Driver`; `netlink.parents` names the errors."""
        settings = self._settings(definition)
        if settings.vlan is not None:
            parents.ensure_vlan(self._host, settings.parent, settings.vlan, definition.mtu)
        name = parents.carrier(settings.parent, settings.vlan)
        parents.check_parent(self._host, name, network, definition.mtu, self._kind)

    def mend(self, network: str, endpoints: Collection[Attachment]) -> None:  # noqa: ARG002
        """See `Driver`: the node's routes to its pods. An interface goes with its parent for good."""
        for row in endpoints:
            access.regrant(self._host, row.host_link, row.addresses)

    def remove(self, network: str, definition: NetworkDefinition) -> None:  # noqa: ARG002
        """See `Driver`."""
        settings = self._settings(definition)
        if settings.vlan is not None:
            parents.remove_vlan(self._host, settings.parent, settings.vlan)

    def prepare(self, plan: LinkPlan, pod: Netns, definition: NetworkDefinition) -> child.PreparedChild:
        """See `Driver`; `netlink.child.prepare_child` names the errors."""
        settings = self._settings(definition)
        mode = settings.mode if isinstance(settings, MacvlanDriver) else "l2"
        parent = child.Parent(
            name=parents.carrier(settings.parent, settings.vlan),
            kind=self._kind,
            mode=mode,
            host_access=settings.host_access,
            services=settings.services,
        )
        return child.prepare_child(self._host, pod, plan, parent)

    def inspect(self, attachment: Attachment, pod: Netns) -> Found:
        """See `Driver`."""
        return inside_alone(attachment, pod)

    def cut(self, attachment: Attachment) -> None:
        """Set the interface down if it still has an address of this attachment.

        Of the ipvlans of a parent one alone can have an address, also while it is down.
        """
        veth.cut_veth(self._host, attachment.host_link)
        pod = foreign.Identity(attachment.netns_inode, attachment.netns_cookie)
        addresses, take = frozenset(attachment.addresses), self._kind == "ipvlan"
        foreign.silence(attachment.netns, pod, attachment.ifname, addresses, take=take)

    def detach(self, attachment: Attachment) -> None:
        """See `Driver`. Nothing is left of it where the pod's namespace is gone."""
        veth.remove_veth(self._host, attachment.host_link)
        pod = foreign.Identity(attachment.netns_inode, attachment.netns_cookie)
        foreign.remove(attachment.netns, pod, attachment.ifname, self._kind)

    def _settings(self, definition: NetworkDefinition) -> MacvlanDriver | IpvlanDriver:
        settings = definition.driver
        if not isinstance(settings, MacvlanDriver | IpvlanDriver):
            raise ServiceError(Code.INTERNAL, f"driver {settings.type} is not {self._kind}")
        return settings
