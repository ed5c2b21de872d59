"""Addresses: allocate and release as nodes ask for them, and what is known of each."""

from typing import ClassVar, Literal
from uuid import UUID

from pydantic import Field

from schemas.fields import Address, ContainerId, Ifname, Mac, NetworkName, NodeName, Owner, PoolName, Time
from schemas.message import PAGE_LIMIT, Message, Page, Query, Request
from schemas.pool import Policy

AllocationState = Literal["attached", "waiting", "free", "quarantined"]


class AllocatedAddress(Message):
    """One address of an attachment. `prefix` is its subnet's length in bits."""

    address: Address
    prefix: int = Field(ge=0, le=128)
    gateway: Address | None = None


class Allocated(Message):
    """The answer of an allocate. The same request again gets the same answer.

    `replaces` names older attachments of the same owner on this node, whose endpoints the node removes
    before it wires this one.
    """

    network: NetworkName
    network_version: int
    pool: PoolName
    policy: Policy
    attachment_id: UUID
    addresses: tuple[AllocatedAddress, ...]
    mac: Mac
    mtu: int
    replaces: tuple[UUID, ...] = ()


class AddressAllocate(Request):
    """Give `owner` one address of each family of `network` for one attachment; all families or none.

    Without `pool` the pool is the one whose owner patterns describe the owner most closely, else `default`.
    Past `deadline` (database time) the request is dropped.

    Errors: `network_unknown`, `network_not_ready`, `pool_unknown`, `owner_forbidden`, `exhausted`,
    `owner_attached_elsewhere`, `attachment_released`, `attachment_conflict`, `deadline_passed`.
    """

    NAME: ClassVar[str] = "address.allocate"
    ANSWER: ClassVar[type[Message]] = Allocated

    network: NetworkName
    pool: PoolName | None = None
    owner: Owner
    node: NodeName
    container_id: ContainerId
    ifname: Ifname
    attachment_id: UUID
    deadline: Time | None = None


class Released(Message):
    """What a release freed. Empty when the attachment was not known (any more): that is a success."""

    addresses: tuple[Address, ...] = ()


class AddressRelease(Request):
    """Free the addresses of the one attachment named, and of no other. Has no business "no".

    `attachment_id` is None only where the node lost its journal: then container_id and ifname name the
    attachment, on this node alone.
    """

    NAME: ClassVar[str] = "address.release"
    ANSWER: ClassVar[type[Message]] = Released

    network: NetworkName
    node: NodeName
    container_id: ContainerId
    ifname: Ifname
    attachment_id: UUID | None = None


class AddressView(Message):
    """An address that was ever used, as people see it."""

    network: NetworkName
    pool: PoolName
    policy: Policy
    address: Address
    state: AllocationState
    since: Time
    owner: Owner | None = None
    mac: Mac | None = None
    ifname: Ifname | None = None
    node: NodeName | None = None
    container_id: ContainerId | None = None
    attachment_id: UUID | None = None


class AddressPage(Page):
    """One page of addresses, in address order."""

    addresses: tuple[AddressView, ...]


class AddressList(Query):
    """The addresses of a network that were ever used, narrowed by the filters. Errors: `network_unknown`."""

    NAME: ClassVar[str] = "address.list"
    ANSWER: ClassVar[type[Message]] = AddressPage

    network: NetworkName
    pool: PoolName | None = None
    owner: Owner | None = None
    node: NodeName | None = None
    state: AllocationState | None = None
    after: str | None = None
    limit: int = PAGE_LIMIT


class AddressShow(Query):
    """One address. Errors: `network_unknown`, `address_unknown` (never used, or outside the network)."""

    NAME: ClassVar[str] = "address.show"
    ANSWER: ClassVar[type[Message]] = AddressView

    network: NetworkName
    address: Address
