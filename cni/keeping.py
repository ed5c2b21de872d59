"""Keeps the CNI plugin on a node as it was installed, for as long as somebody looks again and again.

Nothing is taken away when that ends: a node whose installer is replaced must stay a node that attaches pods.
"""

from pathlib import Path

from cni import conflist
from cni.conflist import Wanted
from cni.executable import versions_of, why_not_ready, why_unready
from cni.installer import (
    CONFLIST_MODE,
    EXECUTABLE_MODE,
    Progress,
    notices_of,
    refuse_foreign,
    shim_in,
)
from cni.places import Places
from cni.placing import Placed, place
from schemas.errors import ServiceError


class Keeper:
    """What is to be where; `look` sees to it, once for each call."""

    def __init__(
        self,
        places: Places,
        wanted: Wanted | None,
        source: Path,
        *,
        wait: bool,
        force: bool,
        progress: Progress,
    ) -> None:
        """As for `install`. With `wait`, the list is written only while the node worker is ready; without
        `wanted` there is none. Raises ServiceError for what could never be installed.
        """
        self._places = places
        self._written = None if wanted is None else conflist.written(wanted)
        self._shim = shim_in(source)
        self._wait = wait
        self._force = force
        self._progress = progress
        self.hindrance: str | None = "it has not looked yet"
        """Why pods cannot be attached as of the last look; None if they can."""
        self._told: str | None = self.hindrance

    def look(self) -> None:
        """Put back what is missing or another, and see whether the node worker is ready."""
        try:
            self.hindrance = self._mend()
        except ServiceError as error:
            self.hindrance = error.message
        if self.hindrance != self._told:
            self._told = self.hindrance
            self._progress(f"waiting: {self.hindrance}" if self.hindrance else "pods can be attached")

    def _mend(self) -> str | None:
        if not self._force:
            refuse_foreign(self._places, with_list=self._written is not None)
        self._tell("executable", place(self._places.shim, self._shim, EXECUTABLE_MODE, versions_of))
        if self._written is None:
            return why_unready(self._places.socket)
        document = conflist.read(self._written)
        reason = why_not_ready(self._places.shim, conflist.plugin_of(document), self._places.socket)
        if reason is not None and self._wait:
            return reason  # a list that is there stays
        was = place(self._places.conflist, self._written, CONFLIST_MODE, lambda _: None)
        self._tell("conflist", was)
        if was != "unchanged":
            for notice in notices_of(self._places, document):
                self._progress(f"note: {notice}")
        return reason

    def _tell(self, part: str, was: Placed) -> None:
        if was != "unchanged":
            path = self._places.shim if part == "executable" else self._places.conflist
            self._progress(f"{part} {path}: {was}")
