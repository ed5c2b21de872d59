"""Pools: named address ranges of a network with a policy and the owners allowed to use them."""

from ipaddress import ip_network
from itertools import pairwise
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_serializer, model_validator

from schemas.fields import Address, NetworkName, OwnerPattern, PoolName
from schemas.message import PAGE_LIMIT, Administrative, Message, Page, Query

DEFAULT_POOL = "default"
Policy = Literal["shared", "pinned", "reserved"]


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


class PoolDefinition(Message):
    """What makes two pools the same."""

    policy: Policy
    ranges: tuple[AddressRange, ...] = Field(min_length=1, max_length=256)
    owners: tuple[OwnerPattern, ...] = Field(default=(), max_length=256)
    cooldown_s: int = Field(default=120, ge=0, le=604800)

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        for version in (4, 6):
            ordered = sorted(
                (r for r in self.ranges if r.first.version == version), key=lambda r: int(r.first)
            )
            for one, other in pairwise(ordered):
                if int(other.first) <= int(one.last):
                    raise ValueError(f"ranges {one} and {other} overlap")
        return self


class PoolView(PoolDefinition):
    """A pool as people see it. `used` counts attached, waiting and quarantined addresses.

    A long list of ranges is cut to the first 256; `range_count` says how many there are.
    """

    ranges: tuple[AddressRange, ...] = ()
    network: NetworkName
    pool: PoolName
    range_count: int
    total: int
    used: int


class PoolCreate(PoolDefinition, Administrative):
    """Carve ranges out of a network's default pool.

    Errors: `network_unknown`, `pool_exists` (another definition under this name), `range_invalid` (outside
    the network or in another pool), `range_in_use` (names the holders in the way).
    """

    NAME: ClassVar[str] = "pool.create"
    ANSWER: ClassVar[type[Message]] = PoolView

    network: NetworkName
    pool: PoolName

    @property
    def definition(self) -> PoolDefinition:
        """The part that is compared with a pool of the same name."""
        return PoolDefinition.model_validate(
            self.model_dump(include=set(PoolDefinition.model_fields), mode="python")
        )


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
