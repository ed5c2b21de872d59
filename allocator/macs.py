"""Which MAC an attachment gets: the one its addresses have, the one it chose, or the one derived. Pure."""

from collections.abc import Sequence

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
    if chosen is not None and chosen != known:
        _check_chosen(network, ledger, places, chosen)
        return chosen
    if known is not None:
        return known
    for attempt in range(TRIES):
        mac = derived_mac(places[0].address, attempt)
        if not _in_use(network, ledger, places, mac):
            return mac
    raise ServiceError(
        Code.MAC_IN_USE,
        f"all MAC addresses derived from {places[0].address} are taken in network {network.name}; see "
        f"`moorage address list {network.name}` for who chose them",
    )


def _in_use(network: Network, ledger: Ledger, places: Sequence[Place], mac: str) -> bool:
    return any(ledger.has_mac(network.id, place.address.version, mac) for place in places)


def _check_chosen(network: Network, ledger: Ledger, places: Sequence[Place], mac: str) -> None:
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
    if _in_use(network, ledger, places, mac):
        raise ServiceError(
            Code.MAC_IN_USE, f"{mac} is in use in network {network.name}: choose another", mac=mac
        )
