"""Install and uninstall the CNI plugin on a node: its executable, and the list that makes runtimes call it.

Runtimes take a node for ready once they find a configuration list. So that comes last, when the node worker
can serve, and goes first.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from cni import conflist
from cni.conflist import Wanted
from cni.executable import is_shim, versions_of, why_not_ready
from cni.notices import chain_notice, kept_notice, name_notice, order_notice, socket_notice
from cni.places import Places
from cni.placing import Placed, content_of, place, remove
from schemas.errors import Code, ServiceError
from schemas.message import Message

EXECUTABLE_MODE = 0o755
CONFLIST_MODE = 0o600  # runtimes are root; the CIS Kubernetes Benchmark asks for no more
_POLL_S = 0.5

Progress = Callable[[str], None]


class Installed(Message):
    """What `install` did."""

    shim: Path
    shim_was: Placed
    conflist: Path
    conflist_was: Placed | Literal["not asked for"]
    notices: tuple[str, ...] = ()


Left = Literal["removed", "missing", "foreign", "kept"]


class Uninstalled(Message):
    """What `uninstall` did."""

    conflist: Path
    conflist_was: Left
    shim: Path
    shim_was: Left
    notices: tuple[str, ...] = ()


def install(
    places: Places,
    wanted: Wanted | None,
    source: Path,
    *,
    wait_s: float | None,
    force: bool,
    progress: Progress,
) -> Installed:
    """Put the executable `source` in its place, wait for the node worker, then write the list. Repeatable.

    Waits up to `wait_s` seconds until STATUS is a success; None does not ask. What somebody else put in
    either place is overwritten with `force` only. Raises ServiceError; a list that is there stays until it is
    replaced, and none is written for a worker that is not ready (`timeout`). Without `wanted`, the executable
    alone is put there, whoever is ready.
    """
    shim = shim_in(source)
    if wanted is None:
        return _install_shim(places, shim, force=force)
    written = conflist.written(wanted)
    if not force:
        refuse_foreign(places)
    renamed = name_notice(places, wanted)
    shim_was = place(places.shim, shim, EXECUTABLE_MODE, versions_of)
    if wait_s is not None:
        _wait(places, written, wait_s, progress)
    conflist_was = place(places.conflist, written, CONFLIST_MODE, lambda _: None)
    notices = notices_of(places, conflist.read(written))
    return Installed(
        shim=places.shim,
        shim_was=shim_was,
        conflist=places.conflist,
        conflist_was=conflist_was,
        notices=(*([renamed] if renamed is not None else []), *notices),
    )


def _install_shim(places: Places, shim: bytes, *, force: bool) -> Installed:
    if not force:
        refuse_foreign(places, with_list=False)
    shim_was = place(places.shim, shim, EXECUTABLE_MODE, versions_of)
    notice = socket_notice(places)
    return Installed(
        shim=places.shim,
        shim_was=shim_was,
        conflist=places.conflist,
        conflist_was="not asked for",
        notices=(notice,) if notice is not None else (),
    )


def notices_of(places: Places, document: Mapping[str, Any]) -> tuple[str, ...]:
    """What a person should hear of a list that is in its place."""
    notices = (socket_notice(places), order_notice(places), chain_notice(places, document))
    return tuple(notice for notice in notices if notice is not None)


def uninstall(places: Places, *, shim_too: bool) -> Uninstalled:
    """Take the list away, and with `shim_too` the executable; only what is ours. Repeatable.

    The executable stays otherwise: runtimes call it for the DEL of each pod that still runs. Whether there
    are any cannot be seen from here (the journal is the running worker's), so it is for the caller to say.
    Raises ServiceError.
    """
    conflist_was = _taken_away(places.conflist, conflist.is_ours)
    if shim_too:
        return _uninstalled(places, conflist_was, _taken_away(places.shim, is_shim), ())
    present = content_of(places.shim)
    shim_was: Left = "missing" if present is None else "kept" if is_shim(present) else "foreign"
    notices = (kept_notice(),) if shim_was == "kept" else ()
    return _uninstalled(places, conflist_was, shim_was, notices)


def _uninstalled(places: Places, conflist_was: Left, shim_was: Left, notices: tuple[str, ...]) -> Uninstalled:
    return Uninstalled(
        conflist=places.conflist,
        conflist_was=conflist_was,
        shim=places.shim,
        shim_was=shim_was,
        notices=notices,
    )


def shim_in(source: Path) -> bytes:
    """What is in `source`. Raises ServiceError `invalid_request` unless that is our executable."""
    content = content_of(source)
    if content is None:
        raise ServiceError(
            Code.INVALID_REQUEST, f"there is no {source}: build it (make shim), or name one with --shim"
        )
    if not is_shim(content):
        raise ServiceError(
            Code.INVALID_REQUEST, f"{source} is not Moorage's CNI executable: name one with --shim"
        )
    return content


def refuse_foreign(places: Places, *, with_list: bool = True) -> None:
    """Raise ServiceError `invalid_request` where somebody else's file is in one of our places."""
    listed = [(places.conflist, conflist.is_ours)] if with_list else []
    for path, is_ours in [(places.shim, is_shim), *listed]:
        content = content_of(path)
        if content is not None and not is_ours(content):
            raise ServiceError(
                Code.INVALID_REQUEST,
                f"{path} is there and not Moorage's: look at it and move it away; --force overwrites it",
                path=str(path),
            )


def _wait(places: Places, written: bytes, wait_s: float, progress: Progress) -> None:
    plugin = conflist.plugin_of(conflist.read(written))
    deadline, told = time.monotonic() + wait_s, None
    while (reason := why_not_ready(places.shim, plugin, places.socket)) is not None:
        if time.monotonic() >= deadline:
            raise ServiceError(
                Code.TIMEOUT,
                f"the node worker did not become ready within {wait_s:g} s: {reason}. The executable is in "
                f"place; {places.conflist} was not written, so that the node does not count as ready. Mend "
                "that and run this again; --no-wait writes it all the same",
                reason=reason,
            )
        if reason != told:
            progress(f"waiting up to {wait_s:g} s for the node worker: {reason}")
            told = reason
        time.sleep(_POLL_S)


def _taken_away(path: Path, is_ours: Callable[[bytes], bool]) -> Left:
    content = content_of(path)
    if content is not None and not is_ours(content):
        return "foreign"
    return "removed" if remove(path) else "missing"
