"""Who may have addresses of which pool, and which pool an owner gets new ones from. Pure, no I/O."""

from collections.abc import Sequence

from allocator.model import Pool
from schemas.errors import Code, ServiceError
from schemas.owners import specificity


def choose_pool(pools: Sequence[Pool], owner: str, wanted: str | None) -> Pool:
    """The pool an owner gets new addresses from.

    The one it names, if that allows it; else the restricted pool whose patterns describe it most closely
    (the longer literal text; then by name); else `default`. Raises `pool_unknown`, `owner_forbidden`,
    `pool_unsuitable`.
    """
    if wanted is None:
        return _closest(pools, owner)
    pool = next((pool for pool in pools if pool.name == wanted), None)
    if pool is None:
        raise ServiceError(
            Code.POOL_UNKNOWN,
            f"there is no pool {wanted}; there are: {', '.join(sorted(p.name for p in pools))}",
            pool=wanted,
        )
    admit(owner, pool)
    return pool


def admit(owner: str, pool: Pool) -> None:
    """Raise `owner_forbidden` or `pool_unsuitable` unless the pool hands out addresses to this owner."""
    check_owner(owner, pool.owners, f"pool {pool.name}")
    if pool.policy == "reserved":
        raise ServiceError(
            Code.POOL_UNSUITABLE,
            f"pool {pool.name} is reserved: its addresses are never handed out. Name another pool",
            pool=pool.name,
        )


def check_owner(owner: str, patterns: tuple[str, ...], where: str) -> None:
    """Raise `owner_forbidden` unless one of `patterns` covers the owner. No patterns allow everybody."""
    if patterns and specificity(patterns, owner) is None:
        raise ServiceError(
            Code.OWNER_FORBIDDEN,
            f"{where} does not allow {owner}; it allows {', '.join(patterns)}. Use another pool, or have "
            "its owners changed",
            owner=owner,
            allowed=list(patterns),
        )


def _closest(pools: Sequence[Pool], owner: str) -> Pool:
    hits = []
    for pool in pools:
        literal = specificity(pool.owners, owner)
        if literal is not None and pool.policy != "reserved":
            hits.append((-literal, pool.name, pool))
    return min(hits)[2] if hits else next(pool for pool in pools if pool.is_default)
