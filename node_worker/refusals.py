"""Why an ADD is refused that nobody else words."""

from node_worker.attachments import Attachment
from node_worker.drivers.delegated import DELEGATED
from schemas.errors import Code, ServiceError


def overtaken(attachment: Attachment) -> ServiceError:
    """It was ended while it was being made."""
    return ServiceError(
        Code.ATTACHMENT_RELEASED,
        f"{attachment.container_id} {attachment.ifname} was ended while it was being attached, by a newer "
        "sandbox of the same owner or by an operator: attach it again if it is still wanted",
        container_id=attachment.container_id,
    )


def makes_no_interfaces(network: str) -> ServiceError:
    """The network gives addresses to other plugins alone."""
    return ServiceError(
        Code.NETWORK_UNSUITABLE,
        f"network {network} makes no interfaces (driver {DELEGATED}): name moorage as `ipam` of the "
        "plugin that makes them, or ask for a network with another driver",
        network=network,
    )
