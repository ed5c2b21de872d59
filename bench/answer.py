"""The one answer that echo and trivial consumer give to every request."""

from ipaddress import ip_address
from uuid import UUID

from schemas.address import Allocated, AllocatedAddress

ANSWER = Allocated(
    network="bench",
    network_version=1,
    pool="default",
    policy="shared",
    attachment_id=UUID(int=1),
    addresses=(AllocatedAddress(address=ip_address("10.0.0.1"), prefix=8),),
    mac="0a:58:0a:00:00:01",
    mtu=1500,
)
