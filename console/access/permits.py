"""What each role may ask, and what of an answer a tenant gets to see. Pure, no I/O.

A tenant sees the networks that allow its owners, the pools that allow them, and of addresses and history
what belongs to its owners. What it may not see is absent: asked for by name, it is as unknown as what was
never there.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from typing import Any

from console.access.identity import Identity, Role
from schemas.address import (
    AddressList,
    AddressMap,
    AddressRebind,
    AddressReleaseByOperator,
    AddressReserve,
    AddressRun,
    AddressShow,
    AddressView,
)
from schemas.dead import ReplayPreview
from schemas.errors import Code, ServiceError
from schemas.history import HistoryList, HistoryRow
from schemas.message import Request
from schemas.network import NetworkList, NetworkShow, NetworkView
from schemas.pool import PoolCreate, PoolDelete, PoolList, PoolResize, PoolUpdate, PoolView
from schemas.requests import MAY_SEND, QUERIES
from schemas.tiles import AddressTiles

OTHERS = "others"
"""What a tenant is told instead of the name of a pool that is not its own."""

_TENANT = frozenset(
    request.NAME
    for request in (
        NetworkList,
        NetworkShow,
        PoolList,
        PoolCreate,
        PoolResize,
        PoolUpdate,
        PoolDelete,
        AddressList,
        AddressShow,
        AddressMap,
        AddressTiles,
        AddressReserve,
        AddressRebind,
        AddressReleaseByOperator,
        HistoryList,
    )
)
MAY_ASK: Mapping[Role, frozenset[str]] = {
    "viewer": QUERIES - {ReplayPreview.NAME},
    "tenant": _TENANT,
    "operator": MAY_SEND["console"],
}


def check(identity: Identity, request: Request) -> None:
    """Raise `sender_forbidden` unless this role may ask such a thing at all."""
    if request.NAME not in MAY_ASK[identity.role]:
        raise forbidden(identity, request.NAME)


def check_operator(identity: Identity, what: str) -> None:
    """Raise `sender_forbidden` unless this is an operator."""
    if identity.role != "operator":
        raise forbidden(identity, what)


def check_sees_all(identity: Identity, what: str) -> None:
    """Raise `sender_forbidden` for a tenant."""
    if identity.confined:
        raise forbidden(identity, what)


def forbidden(identity: Identity, what: str) -> ServiceError:
    """Why not, and how somebody could."""
    return ServiceError(
        Code.SENDER_FORBIDDEN,
        f"{identity.name} is a {identity.role}, who may not do this ({what}): ask an operator, or use a "
        "token whose role may (`moorage token create NAME --role operator`)",
        role=identity.role,
    )


def owns(identity: Identity, owner: str | None) -> bool:
    """Whether an owner is in one of the namespaces of a tenant; others own all."""
    if not identity.confined:
        return True
    namespace, slash, _ = (owner or "").partition("/")
    return bool(slash) and namespace in identity.namespaces


def owns_patterns(identity: Identity, patterns: Collection[str]) -> bool:
    """Whether patterns allow owners of a tenant's namespaces and nobody else."""
    return not identity.confined or (bool(patterns) and all(owns(identity, pattern) for pattern in patterns))


def touches(identity: Identity, pattern: str) -> bool:
    """Whether a pattern allows some owner of a tenant's namespaces."""
    namespace, slash, _ = pattern.partition("/")
    return not identity.confined or (
        bool(slash) and any(_glob(namespace).fullmatch(name) for name in identity.namespaces)
    )


@lru_cache(maxsize=4096)
def _glob(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in pattern.split("*")))


def allows(identity: Identity, owners: Collection[str]) -> bool:
    """Whether a network or pool for these owners (none: everybody) is there for a tenant."""
    return not identity.confined or not owners or any(touches(identity, pattern) for pattern in owners)


def check_own_pool(identity: Identity, network: str, pool: PoolView) -> None:
    """Raise unless a tenant may change a pool: `pool_unknown` where it does not even see it."""
    if owns_patterns(identity, pool.owners):
        return
    if not allows(identity, pool.owners):
        raise no_pool(network, pool.pool)
    raise ServiceError(
        Code.SENDER_FORBIDDEN,
        f"pool {pool.pool} is there for others, too: only an operator changes it",
        role=identity.role,
    )


def check_new_owners(identity: Identity, patterns: Collection[str]) -> None:
    """Raise `owner_forbidden` unless a tenant may give a pool to these owners."""
    if not owns_patterns(identity, patterns):
        spaces = ", ".join(f"{name}/*" for name in sorted(identity.namespaces))
        raise ServiceError(
            Code.OWNER_FORBIDDEN,
            f"name owners of your own namespaces, and no others: {spaces}, or patterns within",
        )


def no_network(name: str) -> ServiceError:
    """As the allocator says it of a network that is not there."""
    return ServiceError(
        Code.NETWORK_UNKNOWN,
        f"there is no network {name}; `moorage network list` shows those there are",
        network=name,
    )


def no_pool(network: str, pool: str) -> ServiceError:
    """As the allocator says it of a pool that is not there."""
    return ServiceError(
        Code.POOL_UNKNOWN,
        f"network {network} has no pool {pool}; `moorage pool list {network}` shows them",
        pool=pool,
    )


def no_address(network: str, address: object) -> ServiceError:
    """As the allocator says it of an address that was never used."""
    return ServiceError(
        Code.ADDRESS_UNKNOWN,
        f"{address} was never used in network {network}; `moorage pool list {network}` shows which addresses "
        "the network has",
        address=str(address),
    )


def seen_network(identity: Identity, view: NetworkView) -> NetworkView | None:
    """A network as a tenant sees it: without its nodes' names, and of its owners those that concern it."""
    if not identity.confined:
        return view
    if not allows(identity, view.definition.owners):
        return None
    owners = _concerning(identity, view.definition.owners)
    definition = view.definition.model_copy(update={"owners": owners})
    return view.model_copy(update={"definition": definition, "nodes": ()})


def seen_pool(identity: Identity, view: PoolView) -> PoolView | None:
    """A pool as a tenant sees it."""
    if not identity.confined:
        return view
    if not allows(identity, view.owners):
        return None
    return view.model_copy(update={"owners": _concerning(identity, view.owners)})


def _concerning(identity: Identity, patterns: Iterable[str]) -> tuple[str, ...]:
    return tuple(pattern for pattern in patterns if touches(identity, pattern))


def seen_address(identity: Identity, view: AddressView, own_pools: Collection[str]) -> AddressView | None:
    """An address as a tenant sees it; `own_pools` are the names of the pools that are its alone."""
    if not identity.confined or owns(identity, view.owner):
        return view
    return view if view.owner is None and view.pool in own_pools else None


def seen_row(identity: Identity, row: HistoryRow, own_pools: Collection[str]) -> HistoryRow | None:
    """A row of history as a tenant sees it. Of what tells of no owner it learns that it happened."""
    if not identity.confined or owns(identity, row.owner):
        return row
    if row.owner is not None or row.pool not in own_pools:
        return None
    return HistoryRow(
        network=row.network, seq=row.seq, at=row.at, event=row.event, pool=row.pool, address=row.address
    )


def seen_runs(identity: Identity, runs: Iterable[AddressRun], pools: Collection[str]) -> list[AddressRun]:
    """Runs as a tenant sees them: what is in a pool that it does not see is taken, and no more is told."""
    if not identity.confined:
        return list(runs)
    seen: list[AddressRun] = []
    for run in runs:
        hidden = run if run.pool in pools else run.model_copy(update={"pool": OTHERS, "state": "reserved"})
        last = seen[-1] if seen else None
        if last is not None and hidden.pool == OTHERS == last.pool and int(last.last) + 1 == int(run.first):
            count = str(int(last.count) + int(run.count))
            seen[-1] = last.model_copy(update={"last": run.last, "count": count})
        else:
            seen.append(hidden)
    return seen


_SAID_TO_TENANTS: Mapping[str, str] = {
    Code.RANGE_IN_USE: "some of these addresses are in use: choose others",
    Code.RANGE_INVALID: "some of these addresses are not the network's, or in a pool already: choose others",
    Code.ADDRESS_IN_USE: "this address is in use: choose another",
    Code.ADDRESS_QUARANTINED: "somebody else was seen to use this address: choose another",
    Code.OWNER_PINNED: "this owner has other addresses already",
    Code.OWNER_FORBIDDEN: "this owner may not have these addresses: choose others",
    Code.POOL_EXISTS: "this name is taken: choose another name for the pool",
    Code.POOL_IN_USE: "addresses of this pool are in use: end the pods that have them, then release them",
    Code.MAC_IN_USE: "this MAC is in use: choose another",
    Code.MAC_FORBIDDEN: "this owner may not have this MAC",
    Code.POOL_UNKNOWN: "the network has no such pool: list its pools for those that you may use",
    Code.POOL_UNSUITABLE: "these addresses or this pool cannot be used so: name addresses of one pinned pool",
    Code.ADDRESS_COOLING: "this address was freed just now: try again later, or choose another",
    Code.OWNER_ATTACHED_ELSEWHERE: "this owner still has its addresses on another node: end that pod first",
    Code.EXHAUSTED: "there are not enough free addresses: ask for fewer, or ask an operator for more",
    Code.SUBNET_CONFLICT: "other networks are in the way: ask an operator",
    Code.REQUEST_CONFLICT: "this key was used before for another change: take a new one",
}
_SAID_AS_IT_IS = frozenset(
    {
        Code.NETWORK_UNKNOWN,
        Code.NETWORK_NOT_READY,
        Code.ADDRESS_UNKNOWN,
        Code.VERSION_CONFLICT,
        Code.INVALID_REQUEST,
        Code.TOO_LARGE,
        Code.PAUSED,
        Code.UNAVAILABLE,
        Code.TIMEOUT,
        Code.NOT_PROVISIONED,
        Code.DEADLINE_PASSED,
    }
)
"""What names nobody but what was asked about."""
_FIELDS_FOR_TENANTS = frozenset({"address", "network", "request_id", "role"})


def seen_error(identity: Identity, error: ServiceError) -> ServiceError:
    """A refusal as a tenant reads it: without the names of those who are in the way, its own apart."""
    if not identity.confined:
        return error
    fields: dict[str, Any] = {key: error.fields[key] for key in _FIELDS_FOR_TENANTS & set(error.fields)}
    holders = error.fields.get("holders")
    if isinstance(holders, (list, tuple)):
        fields["holders"] = [
            holder for holder in holders if isinstance(holder, dict) and owns(identity, holder.get("owner"))
        ]
    message = _SAID_TO_TENANTS.get(error.code, f"this is refused ({error.code}): ask an operator why")
    if error.code in _SAID_AS_IT_IS:
        message = error.message
    return ServiceError(error.code, message, retryable=error.retryable, **fields)
