"""After a restored backup: numbers that never go back, and a pause in which nodes tell what they have."""

from sqlalchemy import Connection, Engine

from allocator.database import Database
from allocator.store import epochs, nodes


def declare_restored(engine: Engine) -> int:
    """Raise the epoch and pause all allocators; the new epoch.

    To be called after every restore, before an allocator starts: versions and seqs given out after the
    backup was made then stay below new ones. Every node counts as lost until it has synced, and while the
    pause lasts, nodes tell what they have, and it is adopted. Raises `Unavailable`.
    """

    def work(connection: Connection) -> int:
        nodes.mark_all_lost(connection)
        return epochs.begin_next(connection)

    return Database(engine).run(work)


def unheard(engine: Engine) -> list[str]:
    """The nodes that have not synced since: what pods there have may be given to others after `resume`."""
    return Database(engine).run(nodes.lost)


def resume(engine: Engine) -> None:
    """End the pause: pods get new addresses again. Raises `Unavailable`."""
    Database(engine).run(epochs.resume)
