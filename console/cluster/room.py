"""Whether a pool has addresses enough for an app, also while a rolling update replaces its pods. Pure."""

from dataclasses import dataclass

from console.cluster.app import App
from schemas.pool import DEFAULT_POOL, PoolView


@dataclass(frozen=True)
class Room:
    """A pool's addresses, in numbers: of the family that has the fewest, where there are two.

    `used` are those that somebody holds, `own` how many of these the app's own pods hold already.
    `cooldown_s`: how long, in seconds, a freed address cannot be had; 0 in a pool restricted to its owners,
    where cooldown is a preference.
    """

    total: int
    used: int = 0
    own: int = 0
    cooldown_s: int = 0

    @property
    def available(self) -> int:
        """How many addresses the app can have at one time."""
        return max(0, self.total - self.used + self.own)


def room_in(pool: PoolView, own: int = 0) -> Room:
    """The room of a pool as `pool.list` shows it; the app's pods hold `own` addresses of each family."""
    totals = {
        version: sum(
            int(each.last) - int(each.first) + 1 for each in pool.ranges if each.first.version == version
        )
        for version in {each.first.version for each in pool.ranges}
    }
    families = max(1, len(totals))
    cut = pool.range_count > len(pool.ranges)
    total = pool.total // families if cut or not totals else min(totals.values())
    return Room(
        total=total,
        used=-(-pool.used // families),
        own=own,
        cooldown_s=0 if pool.owners else pool.cooldown_s,
    )


def surge(app: App) -> int:
    """How many pods more than its replicas a rolling update starts, unless it is told not to.

    A Deployment's default is 25 %, rounded up; a StatefulSet replaces its pods one by one.
    """
    return -(-app.replicas // 4) if app.kind == "Deployment" else 0


def is_tight(app: App, room: Room) -> bool:
    """Whether a rolling update with the default surge would need more addresses than there are."""
    return app.replicas + surge(app) > room.available


def surge_warning(app: App, room: Room) -> str | None:
    """What would go wrong for want of addresses, and what to do about it; None if nothing would."""
    if app.replicas > room.available:
        return (
            f"{_pods(app.replicas)} need {app.replicas} addresses, and pool {app.pool} has {room.available} "
            f"for them: {app.replicas - room.available} would wait for one. Make the pool larger: "
            f"{_larger(app, room, app.replicas)}; or choose fewer replicas"
        )
    peak = app.replicas + surge(app)
    if is_tight(app, room):
        return (
            f"A rolling update starts {_pods(surge(app))} before old ones are gone (maxSurge 25 %) and needs "
            f"{peak} addresses, and pool {app.pool} has {room.available} for them. The Deployment shown "
            "therefore has maxSurge 0 and maxUnavailable 1: an old pod goes before a new one comes. "
            f"For updates without that gap make the pool larger: {_larger(app, room, peak)}{_rest(app, room)}"
        )
    if app.replicas + peak > room.available:
        return _rest(app, room).strip() or None
    return None


def _rest(app: App, room: Room) -> str:
    """What cooldown adds to a rolling update; empty where it adds nothing."""
    if app.policy == "pinned" or not room.cooldown_s:
        return ""
    own = (
        f"`moorage pool create {app.network} {app.name} --policy shared --size {app.replicas + surge(app)} "
        f"--owner '{app.owners}'`"
        if app.pool == DEFAULT_POOL
        else f"`moorage pool update {app.network} {app.pool} --owner '{app.owners}'`"
    )
    return (
        f" Pool {app.pool} is not restricted to owners, so the address of a pod that is gone rests for "
        f"{room.cooldown_s} s, and new pods may wait for it. Take a pool for this app alone: {own}"
    )


def _larger(app: App, room: Room, needed: int) -> str:
    if app.pool == DEFAULT_POOL:
        return f"`moorage network update {app.network} --add-subnet CIDR`"
    size = room.total + needed - room.available
    return f"`moorage pool resize {app.network} {app.pool} --size {size}`"


def _pods(count: int) -> str:
    return "1 pod" if count == 1 else f"{count} pods"
