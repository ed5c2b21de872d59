"""Fence the nodes of which Kubernetes says that they are off. evidence.py has what is believed, and why.

It sends one `node.fence` for each life of a node, as long as it runs. It may run in several processes: the
request has the same `request_id` in each, so it is carried out once.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from threading import Event, Thread
from typing import Protocol

import structlog

from console.cluster import evidence
from console.cluster.calls import Change, Listing
from console.cluster.evidence import Records, read_node
from console.cluster.failures import Expired
from console.session import Asker
from schemas.errors import Code, ServiceError
from schemas.message import Message, Request
from schemas.node import NodeFence, NodeFenced, NodeList, NodePage, NodeView

SLICE_S = 10.0
"""How long the watch is listened to before Moorage's own view is asked for again, in seconds."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0
_PAGE = 500

_GRACE_S = 5.0
"""How much longer than Moorage's answer its bringer is waited for, in seconds."""

log = structlog.get_logger("moorage.console")

Ask = Callable[[Request], Message]
"""Sends a request and brings its answer. Raises ServiceError."""


class Nodes(Protocol):
    """Where Nodes are listed and watched: `Cluster`, or a stand-in."""

    def nodes(self) -> Listing:
        """All Nodes."""
        ...

    def node_changes(self, version: str, for_s: float) -> Iterator[Change]:
        """What changes after `version`, for `for_s` seconds. Raises `Expired`: list them anew."""
        ...


class Fencing:
    """Watches the Nodes of one cluster; `ask` reaches Moorage as an operator or console does."""

    def __init__(
        self,
        nodes: Nodes,
        ask: Ask,
        *,
        slice_s: float = SLICE_S,
        confirmed_after_s: float = evidence.CONFIRMED_AFTER_S,
        pauses_s: tuple[float, float] = (_FIRST_PAUSE_S, _LONGEST_PAUSE_S),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._nodes = nodes
        self._ask = ask
        self._slice_s = slice_s
        self._confirmed_after_s = confirmed_after_s
        self._clock = clock
        self._first_pause_s, self._longest_pause_s = pauses_s
        self._records: Records = {}
        self._version: str | None = None
        """Up to where changes were seen; None before all was listed."""

    def run(self, stop: Event) -> None:
        """Until `stop` is set: within a slice, or the time limit of a call that is under way then."""
        pause_s = self._first_pause_s
        while not stop.is_set():
            began = time.monotonic()
            try:
                self._round(stop)
                pause_s = self._first_pause_s
                stop.wait(self._first_pause_s - (time.monotonic() - began))  # a server that ends each at once
            except Expired:
                self._version = None
                stop.wait(self._first_pause_s)
            except ServiceError as error:
                log.warning("Nodes of Kubernetes are not watched", code=error.code, error=error.message)
                if pause_s > self._first_pause_s:
                    self._version = None  # to go on from there did not work, either
                stop.wait(pause_s)
                pause_s = min(2 * pause_s, self._longest_pause_s)

    def _round(self, stop: Event) -> None:
        """One slice: what changes in it, and what follows. Raises `Expired`, ServiceError."""
        if self._version is None:
            self._list()
        self._settle()
        version = self._version or ""
        for change in self._nodes.node_changes(version, self._slice_s):
            if self._take(change):
                self._settle()
            self._version = change.version or self._version
            if stop.is_set():
                return

    def _list(self) -> None:
        found = self._nodes.nodes()
        before = self._records
        self._records, believed = evidence.relisted(before, map(read_node, found.items))
        if not believed:
            log.error(
                "most Nodes are missing at once: another cluster, or a restored one? None is fenced for it",
                before=len(before),
                now=len(found.items),
            )
        self._version = found.version

    def _take(self, change: Change) -> bool:
        """Note a change; whether the node is said to be off."""
        if change.kind == "BOOKMARK":
            return False
        node = read_node(change.object)
        before = self._records.get(node.name)
        if change.kind == "DELETED":
            self._records = evidence.deleted(self._records, node.name)
        else:
            self._records = evidence.seen(self._records, node)
        record = self._records.get(node.name)
        if record is None or not record.is_due:
            return False
        if before is None or not before.is_due:
            log.info("to be fenced once it sends no heartbeats", node=node.name, reason=record.reason)
        return True

    def _settle(self) -> None:
        """Hold all records against what Moorage says, and fence what is due. Failures are tried again."""
        while self._settle_one():
            pass

    def _settle_one(self) -> bool:
        """Fence one node at most; whether one was, so that others are looked at again before they are.

        An answer may take long, and what Moorage said before it is old by then.
        """
        try:
            views = self._views()
        except ServiceError as error:
            log.warning("no node is fenced: Moorage does not tell", code=error.code, error=error.message)
            self._records = evidence.unheard(self._records)
            return False
        now, records = self._clock(), dict(self._records)
        self._records = records
        for name, record in list(records.items()):
            after, fence = evidence.judge(record, views.get(name), now, self._confirmed_after_s)
            if record.is_due and after.spent:
                log.warning("not fenced: it is another life of the node, or none", node=name)
            settled = fence is not None and self._fence(fence)
            after = evidence.done(after) if settled else after
            del records[name]
            if not (after.deleted and after.spent):  # gone for good
                records[name] = after  # behind the others: one that cannot be fenced holds up none
            if fence is not None:
                return settled
        return False

    def _fence(self, request: NodeFence) -> bool:
        """Whether the request was settled, one way or the other."""
        try:
            answer = self._ask(request)
        except ServiceError as error:
            settled = error.code in (Code.NODE_UNKNOWN, Code.REQUEST_CONFLICT)
            log.warning(
                "fence refused" if settled else "fence not answered: it is asked for again",
                node=request.node,
                session=str(request.session),
                code=error.code,
                error=error.message,
            )
            return settled
        fenced = isinstance(answer, NodeFenced) and answer.fenced
        log.warning(
            "fenced" if fenced else "not fenced: it came back since",
            node=request.node,
            session=str(request.session),
            reason=request.reason,
        )
        return True

    def _views(self) -> dict[str, NodeView]:
        """Moorage's nodes by name. Raises ServiceError."""
        found: dict[str, NodeView] = {}
        after: str | None = None
        while True:
            page = self._ask(NodeList(after=after, limit=_PAGE))
            if not isinstance(page, NodePage):
                raise ServiceError(Code.INTERNAL, f"node.list was answered with a {type(page).__name__}")
            found.update((view.node, view) for view in page.nodes)
            if page.next is None or page.next == after:
                return found
            after = page.next


async def keep_fencing(
    nodes: Nodes,
    asker: Asker,
    *,
    timeout_s: float = 10.0,
    confirmed_after_s: float = evidence.CONFIRMED_AFTER_S,
) -> None:
    """Run `Fencing` in a thread of its own until cancelled; each answer may take `timeout_s` seconds.

    The thread ends within a slice after that, and keeps no process from ending.
    """
    loop, stop = asyncio.get_running_loop(), Event()
    ended: asyncio.Future[None] = loop.create_future()

    def ask(request: Request) -> Message:
        if stop.is_set():
            raise ServiceError(Code.UNAVAILABLE, "the console is ending")
        asked = asyncio.run_coroutine_threadsafe(asker.ask(request, timeout_s=timeout_s), loop)
        try:
            return asked.result(timeout_s + _GRACE_S)
        except (TimeoutError, asyncio.CancelledError) as error:
            raise ServiceError(Code.TIMEOUT, "Moorage did not answer in time") from error

    def run() -> None:
        try:
            Fencing(nodes, ask, confirmed_after_s=confirmed_after_s).run(stop)
        except Exception as error:
            if not stop.is_set():
                loop.call_soon_threadsafe(ended.set_exception, error)

    Thread(target=run, name="fencing", daemon=True).start()
    try:
        await ended
    finally:
        stop.set()
