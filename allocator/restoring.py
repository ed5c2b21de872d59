"""After a restored backup: numbers that never go back, and a pause in which nodes tell what they have."""

from dataclasses import dataclass

from sqlalchemy import Connection, Engine

from allocator.database import Database
from allocator.model import first_number
from allocator.store import epochs, history, nodes


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


@dataclass(frozen=True, slots=True)
class State:
    """Whether the allocators are paused, in which epoch, and which nodes were not heard since.

    `witness` is the node that showed in this epoch that the database was restored, where nobody had said so.
    """

    paused: bool
    epoch: int
    unheard: list[str]
    witness: str | None


def state(connection: Connection) -> State:
    """How a restore stands."""
    epoch = epochs.current(connection)
    witness = history.witness(connection, first_number(epoch))
    return State(epochs.paused(connection), epoch, nodes.lost(connection), witness)


def unheard(engine: Engine) -> list[str]:
    """The nodes that have not synced since: what pods there have may be given to others after `resume`."""
    return Database(engine).run(nodes.lost)


def resume(engine: Engine) -> None:
    """End the pause: pods get new addresses again. Raises `Unavailable`."""
    Database(engine).run(epochs.resume)
