"""Addresses: allocate and release as nodes ask for them, and what operators do with single addresses."""

from typing import ClassVar, Literal, Self
from uuid import UUID

from pydantic import Field, model_validator

from schemas.fields import (
    Address,
    Cidr,
    ContainerId,
    Ifname,
    Mac,
    NetworkName,
    NodeName,
    Owner,
    PoolName,
    Time,
)
from schemas.message import PAGE_LIMIT, Administrative, Done, Message, Page, Query, Request
from schemas.pool import Policy

AllocationState = Literal["attached", "waiting", "free", "quarantined"]
MapState = Literal["attached", "waiting", "cooling", "free", "quarantined", "reserved"]
Reason = Field(min_length=1, max_length=500)


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

    `addresses` are a wish: of each family named, one that is free among these. Without `pool` the pool is
    the one that holds them, else the one whose owner patterns describe the owner most closely, else
    `default`. `mac` is a wish that the pool has to allow. Past `deadline` (database time) the request is
    dropped.

    Errors: `network_unknown`, `network_not_ready`, `pool_unknown`, `pool_unsuitable`, `owner_forbidden`,
    `owner_pinned`, `owner_attached_elsewhere`, `address_unknown`, `address_in_use`, `address_cooling`,
    `address_quarantined`, `mac_forbidden`, `mac_in_use`, `exhausted`, `attachment_released`,
    `attachment_conflict`, `paused`.
    """

    NAME: ClassVar[str] = "address.allocate"
    VERSION: ClassVar[int] = 2
    ANSWER: ClassVar[type[Message]] = Allocated

    network: NetworkName
    pool: PoolName | None = None
    owner: Owner
    node: NodeName
    container_id: ContainerId
    ifname: Ifname
    attachment_id: UUID
    deadline: Time | None = None
    addresses: tuple[Address, ...] = Field(default=(), max_length=64)
    mac: Mac | None = None


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


class AddressQuarantine(Request):
    """Withhold an address of the node's own attachment because somebody else was seen to use it.

    It is handed out to nobody until an operator releases it. An attachment that does not hold the address
    (any more) is a success: there is nothing to withhold.
    """

    NAME: ClassVar[str] = "address.quarantine"
    ANSWER: ClassVar[type[Message]] = Done

    network: NetworkName
    node: NodeName
    attachment_id: UUID
    address: Address
    reason: str = Reason


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


class OwnerAddresses(Message):
    """The addresses that one interface of an owner is pinned to."""

    addresses: tuple[AddressView, ...]


def one_of_each(addresses: tuple[Address, ...]) -> None:
    """Raise ValueError where two of `addresses` are of one family."""
    if len({address.version for address in addresses}) < len(addresses):
        raise ValueError("name at most one address of each family")


class AddressReserve(Administrative):
    """Pin addresses to an owner before its pod exists: one of each family of the network.

    What `addresses` leaves open is picked. An owner that has these addresses already is a success.
    Errors: `network_unknown`, `network_not_ready`, `pool_unknown`, `pool_unsuitable` (not a pinned pool),
    `owner_forbidden`, `owner_pinned` (to others), `address_unknown`, `address_in_use`, `address_cooling`,
    `address_quarantined`, `exhausted`, `paused`.
    """

    NAME: ClassVar[str] = "address.reserve"
    ANSWER: ClassVar[type[Message]] = OwnerAddresses

    network: NetworkName
    owner: Owner
    ifname: Ifname = "eth0"
    pool: PoolName | None = None
    addresses: tuple[Address, ...] = Field(default=(), max_length=2)

    @model_validator(mode="after")
    def _families(self) -> Self:
        one_of_each(self.addresses)
        return self


class AddressRebind(Administrative):
    """Move a pinned owner to other addresses, in one step.

    A pod that runs keeps what it has until it ends; its next one comes up with the new addresses. The old
    address is free as soon as nobody is attached to it. All that an owner has lies in one pool. Errors:
    those of `address.reserve` and `address_unknown` where the owner is pinned to nothing.
    """

    NAME: ClassVar[str] = "address.rebind"
    ANSWER: ClassVar[type[Message]] = OwnerAddresses

    network: NetworkName
    owner: Owner
    ifname: Ifname = "eth0"
    addresses: tuple[Address, ...] = Field(min_length=1, max_length=2)

    @model_validator(mode="after")
    def _families(self) -> Self:
        one_of_each(self.addresses)
        return self


class AddressReleaseByOperator(Administrative):
    """Take an address from whom it waits for, or end its quarantine; history keeps the reason.

    An attached address is refused (`address_in_use`) unless `force` says that its pod is known to be gone:
    then it is quarantined, with all else that this attachment has, and a second release frees it. With
    `expected_owner` it is refused when somebody else has it by now. Errors: `network_unknown`,
    `address_unknown`, `address_in_use`.
    """

    NAME: ClassVar[str] = "address.release_by_operator"
    ANSWER: ClassVar[type[Message]] = AddressView

    network: NetworkName
    address: Address
    reason: str = Reason
    expected_owner: Owner | None = None
    force: bool = False


class AddressPage(Page):
    """One page of addresses, in address order."""

    addresses: tuple[AddressView, ...]


class AddressList(Query):
    """The addresses of a network that were ever used, narrowed by the filters. Errors: `network_unknown`."""

    NAME: ClassVar[str] = "address.list"
    VERSION: ClassVar[int] = 2
    ANSWER: ClassVar[type[Message]] = AddressPage

    network: NetworkName
    pool: PoolName | None = None
    owner: Owner | None = None
    node: NodeName | None = None
    state: AllocationState | None = None
    within: Cidr | None = None
    after: str | None = None
    limit: int = PAGE_LIMIT


class AddressShow(Query):
    """One address, now or as it was at a time. Errors: `network_unknown`, `address_unknown`.

    `at` looks into the history: who held the address then? Its retention limits how far back.
    """

    NAME: ClassVar[str] = "address.show"
    VERSION: ClassVar[int] = 2
    ANSWER: ClassVar[type[Message]] = AddressView

    network: NetworkName
    address: Address
    at: Time | None = None


class AddressRun(Message):
    """Neighbouring addresses of one pool in one state. `count` is a text: IPv6 outgrows JSON numbers."""

    first: Address
    last: Address
    pool: PoolName
    state: MapState
    count: str


class AddressMapPage(Page):
    """One page of an address map, in address order."""

    runs: tuple[AddressRun, ...]


class AddressMap(Query):
    """All addresses of a network that can be handed out, as runs of one state. Errors: `network_unknown`.

    With `within`, those inside it alone. A run may go on in the next page.
    """

    NAME: ClassVar[str] = "address.map"
    VERSION: ClassVar[int] = 2
    ANSWER: ClassVar[type[Message]] = AddressMapPage

    network: NetworkName
    pool: PoolName | None = None
    within: Cidr | None = None
    after: str | None = None
    limit: int = PAGE_LIMIT
