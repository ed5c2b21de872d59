"""A network seen from far: a part of it as equal tiles, each with counts of its addresses by state."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from schemas.address import MapState
from schemas.fields import Address, Cidr, NetworkName, PoolName
from schemas.message import Message, Query


class Tile(Message):
    """The addresses of one tile that can be handed out, counted in texts: IPv6 outgrows JSON numbers.

    `states` leaves out what no address is in. `pools` are those with the most addresses here, the biggest
    first; `more_pools` is how many it leaves out.
    """

    first: Address
    total: str
    states: Mapping[MapState, str]
    pools: Mapping[PoolName, str]
    more_pools: int = 0


class TilesView(Message):
    """The tiles of `within` in address order, without those where nothing can be handed out.

    `tile_prefix` is the length of each tile's prefix in bits.
    """

    network: NetworkName
    within: Cidr
    tile_prefix: int
    tiles: tuple[Tile, ...]


class AddressTiles(Query):
    """`within`, a subnet of the network or a part of one, cut into at most 256 equal tiles.

    Addresses of other pools than `pools` (None: all) count as reserved, and those pools are not named.
    Errors: `network_unknown`, `range_invalid` (not inside one subnet: the message names those there are).
    """

    NAME: ClassVar[str] = "address.tiles"
    ANSWER: ClassVar[type[Message]] = TilesView

    network: NetworkName
    within: Cidr
    pools: tuple[PoolName, ...] | None = Field(default=None, max_length=1000)
