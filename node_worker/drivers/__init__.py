"""What a network is made of on a node, by driver type; one file per driver."""

from typing import Protocol

from node_worker.attachments import Attachment
from node_worker.checking import Found
from node_worker.netlink.namespace import Netns
from node_worker.plan import EndpointPlan
from schemas.network import NetworkDefinition


class Driver(Protocol):
    """Plain calls that take milliseconds and run off the event loop. All raise ServiceError.

    `ensure`, `remove`, `cut` and `detach` are safe to call twice; `attach` leaves nothing when it fails.
    """

    def ensure(self, network: str, definition: NetworkDefinition) -> None:
        """Make the network exist on this node."""

    def remove(self, network: str, definition: NetworkDefinition) -> None:
        """Remove what `ensure` made. Endpoints must be away."""

    def attach(self, plan: EndpointPlan, pod: Netns) -> None:
        """Make the endpoint in the pod's namespace."""

    def inspect(self, attachment: Attachment, pod: Netns) -> Found:
        """What the kernel has of an endpoint."""

    def cut(self, host_link: str) -> None:
        """Stop an endpoint's traffic at once: its address may soon be another's."""

    def detach(self, host_link: str) -> None:
        """Remove an endpoint, without help from the pod's namespace."""
