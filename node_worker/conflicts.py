"""An address that somebody else uses already: seen before a pod has it, withheld, another one asked for."""

import structlog

from broker.threads import Threads
from node_worker.asking import Ask, ask_for
from node_worker.attachments import Attachment
from node_worker.drivers import Prepared
from node_worker.plan import EndpointPlan
from node_worker.probe import who_uses
from schemas.address import AddressQuarantine, Allocated
from schemas.errors import Code, ServiceError
from schemas.fields import IPAddress
from schemas.message import Done

_ASK_S = 10.0

log = structlog.get_logger("moorage.node")


class AnotherMayDo(ServiceError):
    """The address is somebody else's, and the owner may have any other of its pool."""


class Conflicts:
    """Looks at the segment, and tells the allocator of what is used there."""

    def __init__(self, node: str, ask: Ask, threads: Threads) -> None:
        """`threads` wait for a moment each, so there have to be many."""
        self._node = node
        self._ask = ask
        self._threads = threads
        self.asked = self.seen = 0
        """How many addresses were asked for on their segment, and how many of them somebody answered for."""

    async def check(
        self, attachment: Attachment, allocated: Allocated, plan: EndpointPlan, prepared: Prepared
    ) -> None:
        """Raise ServiceError `address_quarantined` where somebody answers for one of the addresses.

        The allocator has withheld it then, and ended the attachment.
        """
        ear = prepared.ear()
        if ear is None:
            return
        addresses = [address.ip for address in plan.addresses]
        self.asked += len(addresses)
        for address, mac in (await self._threads.run(who_uses, addresses, *ear)).items():
            raise await self._withheld(attachment, allocated, address, mac)

    async def _withheld(
        self, attachment: Attachment, allocated: Allocated, address: IPAddress, mac: str
    ) -> ServiceError:
        self.seen += 1
        ours = mac == allocated.mac
        seen = f"{mac} answered for {address} on node {self._node}"
        if ours:
            seen += ": its own MAC, so an endpoint of it is still alive, maybe on a node that was fenced"
        log.error(
            "an address is used by somebody else", network=attachment.network, address=str(address), mac=mac
        )
        request = AddressQuarantine(
            network=attachment.network,
            node=self._node,
            attachment_id=attachment.attachment_id,
            address=address,
            reason=seen,
        )
        await ask_for(Done, self._ask, request, _ASK_S)
        told = f"{seen}. It is quarantined until somebody has mended that: `moorage address release "
        told += f"{attachment.network} {address} --reason TEXT`"
        kind = AnotherMayDo if allocated.policy == "shared" else ServiceError
        return kind(Code.ADDRESS_QUARANTINED, told, address=str(address), mac=mac)
