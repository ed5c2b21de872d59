"""Which MAC an attachment gets: the one its addresses have, the one it chose, or the one derived. Pure."""

from collections.abc import Collection, Sequence

from allocator.ledger import Ledger
from allocator.model import Network, derived_mac, is_derived
from allocator.supply import Place
from schemas.errors import Code, ServiceError
from schemas.fields import IPAddress

TRIES = 4
"""How many MACs are derived from an address before giving up: each is one in four thousand millions."""


def candidates(address: IPAddress) -> list[str]:
    """The MACs that `address` may get, best first."""
    return [derived_mac(address, attempt) for attempt in range(TRIES)]


def choose_mac(network: Network, ledger: Ledger, places: Sequence[Place], chosen: str | None) -> str:
    """The MAC for one attachment with these addresses, IPv4 first.

    Addresses keep their MAC when they move, so that peers' neighbour caches stay true. Raises
    `mac_forbidden`, `mac_in_use`.
    """
    known = next((place.row.mac for place in places if place.row is not None and place.row.mac), None)
    own = {place.row.mac for place in places if place.row is not None}
    if chosen is not None and chosen != known:
        _check_chosen(network, places, chosen)
        if _in_use(network, ledger, chosen, own):
            raise ServiceError(
                Code.MAC_IN_USE, f"{chosen} is in use in network {network.name}: choose another", mac=chosen
            )
        return chosen
    return known if known is not None else derive(network, ledger, places[0].address, own)


def derive(network: Network, ledger: Ledger, address: IPAddress, own: Collection[str | None]) -> str:
    """The MAC that belongs to `address`, or the next one if somebody has that. `own` are its owner's anyway.

    A MAC is one attachment's in all families, also where it has one address left. Raises `mac_in_use`.
    """
    for attempt in range(TRIES):
        mac = derived_mac(address, attempt)
        if not _in_use(network, ledger, mac, own):
            return mac
    raise ServiceError(
        Code.MAC_IN_USE,
        f"all MAC addresses derived from {address} are taken in network {network.name}; see "
        f"`moorage address list {network.name}` for who chose them",
    )


def _in_use(network: Network, ledger: Ledger, mac: str, own: Collection[str | None]) -> bool:
    return mac not in own and any(ledger.has_mac(network.id, family, mac) for family in network.families)


def _check_chosen(network: Network, places: Sequence[Place], mac: str) -> None:
    for place in places:
        pool = network.pool(place.pool_id)
        if not pool.allow_mac:
            raise ServiceError(
                Code.MAC_FORBIDDEN,
                f"pool {pool.name} lets nobody choose a MAC: leave it out, or have the pool changed "
                f"(`moorage pool update {network.name} {pool.name} --allow-mac`)",
                pool=pool.name,
            )
    if is_derived(mac):
        raise ServiceError(
            Code.MAC_FORBIDDEN,
            f"{mac} is of the kind that addresses get by themselves (0a:58, 0e:58): choose another",
            mac=mac,
        )
