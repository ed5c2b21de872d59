"""Endpoints that another plugin makes, which asks us for addresses alone: we only look after those."""

from collections.abc import Collection

from node_worker.attachments import Attachment
from node_worker.checking import Found
from node_worker.drivers.inside import inside_alone
from node_worker.netlink import foreign
from node_worker.netlink.namespace import Netns
from node_worker.plan import EndpointPlan, LinkPlan
from schemas.fields import IPAddress
from schemas.network import NetworkDefinition

DELEGATED = "ipam"
"""What the journal calls an attachment of this kind, beside the types of network drivers."""


class Nothing:
    """The other plugin makes all of it."""

    def complete(self, plan: EndpointPlan) -> EndpointPlan:
        """See `Prepared`. The other plugin makes the routes, too."""
        return plan

    def ear(self) -> None:
        """See `Prepared`."""

    def close(self) -> None:
        """See `Prepared`."""


class DelegatedDriver:
    """Nothing of a network is made for it, and an endpoint is taken off the network, never removed."""

    shows_on_host = False

    def ensure(self, network: str, definition: NetworkDefinition, peers: Collection[IPAddress]) -> None:
        """See `Driver`."""

    def mend(self, network: str, endpoints: Collection[Attachment]) -> None:
        """See `Driver`."""

    def remove(self, network: str, definition: NetworkDefinition) -> None:
        """See `Driver`."""

    def prepare(self, plan: LinkPlan, pod: Netns, definition: NetworkDefinition) -> Nothing:  # noqa: ARG002
        """See `Driver`."""
        return Nothing()

    def inspect(self, attachment: Attachment, pod: Netns) -> Found:
        """See `Driver`. Links outside the pod are the other plugin's."""
        return inside_alone(attachment, pod)

    def cut(self, attachment: Attachment) -> None:
        """Set the interface down if it still has an address of this attachment."""
        pod = foreign.Identity(attachment.netns_inode, attachment.netns_cookie)
        foreign.silence(attachment.netns, pod, attachment.ifname, frozenset(attachment.addresses))

    def detach(self, attachment: Attachment) -> None:
        """The other plugin removes its interface after our DEL."""
