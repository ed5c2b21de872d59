"""Pools: named address ranges of a network with a policy and the owners allowed to use them."""

from ipaddress import ip_network
from itertools import pairwise
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_serializer, model_validator

from schemas.fields import Address, NetworkName, OwnerPattern, PoolName
from schemas.message import PAGE_LIMIT, Administrative, Done, Message, Page, Query

DEFAULT_POOL = "default"
DEFAULT_COOLDOWN_S = 120
LONGEST_S = 10 * 365 * 86_400
"""The longest time an address may be kept for its owner, in seconds; None is for ever."""
Policy = Literal["shared", "pinned", "reserved"]
Size = Field(default=None, ge=1, le=1 << 32)


class AddressRange(Message):
    """A run of addresses, both ends included. Travels as `10.0.0.10-10.0.0.20`; reads also `10.0.0.16/28`."""

    first: Address
    last: Address

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        text = value.replace(" ", "")
        if "/" in text:
            net = ip_network(text)
            return {"first": net[0], "last": net[-1]}
        first, dash, last = text.partition("-")
        return {"first": first, "last": last if dash else first}

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.first.version != self.last.version or int(self.first) > int(self.last):
            raise ValueError(f"range {self.first}-{self.last} must go from a lower to a higher address")
        return self

    @model_serializer
    def _text(self) -> str:
        return f"{self.first}-{self.last}"

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


def check_disjoint(ranges: tuple[AddressRange, ...]) -> None:
    """Raise ValueError where two of `ranges` share an address."""
    for version in (4, 6):
        ordered = sorted((r for r in ranges if r.first.version == version), key=lambda r: int(r.first))
        for one, other in pairwise(ordered):
            if int(other.first) <= int(one.last):
                raise ValueError(f"ranges {one} and {other} overlap")


class PoolSettings(Message):
    """How a pool treats its addresses and who may use them.

    `cooldown_s`: how long a freed address rests, in seconds. `retain_s`: how long a pinned address waits
    for its owner, in seconds; None is for ever. `allow_mac`: whether owners may choose their MAC.
    """

    owners: tuple[OwnerPattern, ...] = Field(default=(), max_length=256)
    cooldown_s: int = Field(default=DEFAULT_COOLDOWN_S, ge=0, le=604800)
    retain_s: int | None = Field(default=None, ge=1, le=LONGEST_S)
    allow_mac: bool = False


class PoolDefinition(PoolSettings):
    """What makes two pools the same."""

    policy: Policy
    ranges: tuple[AddressRange, ...] = Field(default=(), max_length=256)

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        check_disjoint(self.ranges)
        return self

    @model_validator(mode="after")
    def _retained(self) -> Self:
        if self.retain_s is not None and self.policy != "pinned":
            raise ValueError(f"retain_s is for pinned pools: in a {self.policy} pool no address waits")
        return self


class PoolView(PoolDefinition):
    """A pool as people see it. `used` counts attached, waiting and quarantined addresses.

    A long list of ranges is cut to the first 256; `range_count` says how many there are. `version` grows
    with every change of the pool.
    """

    network: NetworkName
    pool: PoolName
    version: int = 0
    range_count: int
    total: int
    used: int


class PoolCreate(PoolDefinition, Administrative):
    """Carve a pool out of a network's default pool: `ranges`, or any `size` addresses of each family.

    Errors: `network_unknown`, `network_not_ready`, `pool_exists` (another definition under this name),
    `range_invalid` (outside the network or in another pool), `range_in_use` (names the holders in the way),
    `exhausted` (the default pool has no `size` addresses to give).
    """

    NAME: ClassVar[str] = "pool.create"
    VERSION: ClassVar[int] = 2
    ANSWER: ClassVar[type[Message]] = PoolView

    network: NetworkName
    pool: PoolName
    size: int | None = Size

    @model_validator(mode="after")
    def _sized(self) -> Self:
        if (self.size is None) == (not self.ranges):
            raise ValueError("name the ranges of the pool, or its size: one of the two")
        return self

    @property
    def definition(self) -> PoolDefinition:
        """The part that is compared with a pool of the same name."""
        return PoolDefinition.model_validate(
            self.model_dump(include=set(PoolDefinition.model_fields), mode="python")
        )


class PoolChange(Administrative):
    """What all changes of a pool have in common. A stale `expected_version` is refused."""

    network: NetworkName
    pool: PoolName
    expected_version: int | None = None


class PoolResize(PoolChange):
    """Take ranges from the default pool or give ranges back to it; `size` does either, for each family.

    Giving back takes the highest addresses first. Errors: `network_unknown`, `pool_unknown`,
    `version_conflict`, `range_invalid`, `range_in_use` (names the holders), `exhausted`.
    """

    NAME: ClassVar[str] = "pool.resize"
    ANSWER: ClassVar[type[Message]] = PoolView

    add: tuple[AddressRange, ...] = Field(default=(), max_length=256)
    remove: tuple[AddressRange, ...] = Field(default=(), max_length=256)
    size: int | None = Size

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.size is None) == (not self.add and not self.remove):
            raise ValueError("name ranges to add or to remove, or a size: one of the two")
        check_disjoint(self.add + self.remove)
        return self


class PoolUpdate(PoolChange):
    """Change how a pool treats its addresses and who may use them; what is None stays as it is.

    Addresses that owners hold stay theirs. `retain_s` 0 means for ever here, as None means no change.
    Errors: `network_unknown`, `pool_unknown`, `version_conflict`, `pool_unsuitable`.
    """

    NAME: ClassVar[str] = "pool.update"
    ANSWER: ClassVar[type[Message]] = PoolView

    owners: tuple[OwnerPattern, ...] | None = Field(default=None, max_length=256)
    cooldown_s: int | None = Field(default=None, ge=0, le=604800)
    retain_s: int | None = Field(default=None, ge=0, le=LONGEST_S)
    allow_mac: bool | None = None


class PoolDelete(PoolChange):
    """Give all ranges of a pool back to the default pool.

    Errors: `network_unknown`, `pool_unknown`, `version_conflict`, `pool_in_use` (names the holders),
    `pool_unsuitable` (the default pool stays as long as its network).
    """

    NAME: ClassVar[str] = "pool.delete"
    ANSWER: ClassVar[type[Message]] = Done


class PoolPage(Page):
    """One page of a network's pools, by name."""

    pools: tuple[PoolView, ...]


class PoolList(Query):
    """The pools of one network. Errors: `network_unknown`."""

    NAME: ClassVar[str] = "pool.list"
    ANSWER: ClassVar[type[Message]] = PoolPage

    network: NetworkName
    after: str | None = None
    limit: int = PAGE_LIMIT
