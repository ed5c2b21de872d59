"""What a network is made of on a node, by driver type; one file per driver."""

from collections.abc import Collection
from typing import Protocol

from node_worker.attachments import Attachment
from node_worker.checking import Found
from node_worker.netlink.namespace import Netns
from node_worker.plan import EndpointPlan, LinkPlan
from schemas.fields import IPAddress
from schemas.network import NetworkDefinition


class Prepared(Protocol):
    """What is made of an endpoint before its addresses are known. Nothing is heard from the pod yet."""

    def complete(self, plan: EndpointPlan) -> EndpointPlan:
        """Complete the endpoint; what came of the plan. Leaves nothing of it when it fails."""

    def ear(self) -> tuple[Netns, str] | None:
        """A namespace and an interface there, up, that hears the network's segment; None without one."""

    def close(self) -> None:
        """Let go of what was open for this; the endpoint stays as it is. Safe to call twice."""


class Driver(Protocol):
    """Plain calls that take milliseconds and run off the event loop. All raise ServiceError.

    `ensure`, `mend`, `remove`, `cut` and `detach` are safe to call twice; `prepare` leaves nothing when it
    fails.
    """

    @property
    def shows_on_host(self) -> bool:
        """Whether an endpoint has an end on the host, which the kernel removes with the pod's namespace."""

    def ensure(self, network: str, definition: NetworkDefinition, peers: Collection[IPAddress]) -> None:
        """Make the network exist on this node. `peers` are the nodes that it leads to, if it has tunnels."""

    def mend(self, network: str, endpoints: Collection[Attachment]) -> None:
        """Put back what endpoints lost with the network, which is there again."""

    def remove(self, network: str, definition: NetworkDefinition) -> None:
        """Remove what `ensure` made. Endpoints must be away."""

    def prepare(self, plan: LinkPlan, pod: Netns, definition: NetworkDefinition) -> Prepared:
        """Make what can be made before the addresses are known. `pod` stays open until it is completed."""

    def inspect(self, attachment: Attachment, pod: Netns) -> Found:
        """What the kernel has of an endpoint."""

    def cut(self, attachment: Attachment) -> None:
        """Stop an endpoint's traffic at once: its address may soon be another's."""

    def detach(self, attachment: Attachment) -> None:
        """Remove an endpoint, without help from the pod's namespace where it has a host link."""
