"""Starting a server on ports that were free a moment ago."""

from collections.abc import Callable

from compose.services.errors import NotStarted


def outlast_thefts(
    wait: Callable[[], None], stop: Callable[[], None], relaunch_elsewhere: Callable[[], None], tries: int
) -> None:
    """`wait` for a launched server, up to `tries` times, on other ports where somebody took one meanwhile.

    A server that does not come up is stopped. Raises the `NotStarted` of the last try.
    """
    for left in reversed(range(tries)):
        try:
            return wait()
        except NotStarted as error:
            stop()
            if not left or not error.port_was_taken:
                raise
        relaunch_elsewhere()
    return None
