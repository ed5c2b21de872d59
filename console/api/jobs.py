"""Changes that take longer than an HTTP request should: they go on, and can be looked at meanwhile."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Literal

from fastapi.responses import JSONResponse
from pydantic import BaseModel

from console.access.identity import Identity
from schemas.errors import Code, ErrorBody, ServiceError
from schemas.message import Administrative, Message

WAIT_S = 1.0
"""How long a request waits for an answer before it is told where to look for it, in seconds."""
_KEPT_S = 3600.0
_MOST = 1000


_Key = tuple[Identity, str]
Progress = Callable[[], dict[str, Any]]


class Job(BaseModel):
    """A change on its way. `result` or `error` is there once it has ended; `progress` where it is counted."""

    request_id: str
    state: Literal["running", "done", "failed"]
    network: str
    result: dict[str, Any] | None = None
    error: ErrorBody | None = None
    progress: dict[str, Any] | None = None


ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: {"model": Job, "description": "On its way: look at `Location` for how far it has come."}
}


def accepted(job: Job) -> JSONResponse:
    """202, with a place to watch."""
    headers = {
        "Location": f"/api/v1/jobs/{job.request_id}",
        "Idempotency-Key": job.request_id,
        "Retry-After": "1",
    }
    return JSONResponse(job.model_dump(mode="json"), HTTPStatus.ACCEPTED, headers)


class _Kept:
    def __init__(
        self, request: Administrative, task: "asyncio.Task[Message]", at: float, progress: Progress | None
    ) -> None:
        self.request, self.task, self.at, self.progress = request, task, at, progress

    @property
    def network(self) -> str:
        """What it is about."""
        return self.request.partition_key


class Jobs:
    """Remembers changes for an hour, in memory: a console that starts anew knows none of them.

    Nothing is lost with them: the allocator has the change, and the same request with the same
    Idempotency-Key joins those who wait for its answer.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._jobs: OrderedDict[_Key, _Kept] = OrderedDict()

    async def run(
        self,
        identity: Identity,
        request: Administrative,
        work: Callable[[], Awaitable[Message]],
        *,
        whole: bool = False,
        progress: Progress | None = None,
    ) -> Message | None:
        """The answer of `work` if it comes within a second, or with `whole` whenever it comes; None
        where it goes on. Raises what `work` raises by then.

        The same request again waits for the same answer; another one under its id is left to the allocator,
        which refuses it.
        """
        self._forget()
        key = _key(identity, request.request_id)
        kept = self._jobs.get(key)
        if kept is not None and kept.request != request:
            return await work()
        if kept is None or (kept.task.done() and (kept.task.cancelled() or kept.task.exception())):
            task = asyncio.ensure_future(_message(work))
            task.add_done_callback(_looked_at)
            kept = self._jobs[key] = _Kept(request, task, self._now(), progress)
        done, _ = await asyncio.wait([kept.task], timeout=None if whole else WAIT_S)
        return kept.task.result() if done else None

    def find(self, identity: Identity, request_id: str) -> Job:
        """How far a change has come. Raises `request_unknown`."""
        self._forget()
        kept = self._jobs.get(_key(identity, request_id))
        if kept is None:
            raise ServiceError(
                "request_unknown",
                f"nothing is known here of a request {request_id}: it ended more than an hour ago, or the "
                "console was started since. Send the same request with the same Idempotency-Key: it is "
                "carried out once, however often it is sent",
            )
        told: dict[str, Any] = {
            "request_id": request_id,
            "network": kept.network,
            "progress": None if kept.progress is None else kept.progress(),
        }
        if not kept.task.done():
            return Job(state="running", **told)
        error = kept.task.exception()
        if error is None:
            result = kept.task.result().model_dump(mode="json")
            return Job(state="done", result=result, **told)
        why = error if isinstance(error, ServiceError) else ServiceError(Code.INTERNAL, "it failed")
        return Job(state="failed", error=why.body(), **told)

    async def close(self) -> None:
        """Stop waiting for what is on its way; the allocator carries it out all the same."""
        tasks = [kept.task for kept in self._jobs.values() if not kept.task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _forget(self) -> None:
        before = self._now() - _KEPT_S
        for key, kept in list(self._jobs.items()):
            if kept.task.done() and (kept.at < before or len(self._jobs) > _MOST):
                del self._jobs[key]
        if len(self._jobs) > _MOST:
            raise ServiceError(
                Code.UNAVAILABLE, f"{_MOST} changes are on their way already: wait for one of them to end"
            )


def _key(identity: Identity, request_id: str) -> _Key:
    """Of all that it may: a new token of the same name is told nothing that was told to the one before."""
    return identity, request_id


async def _message(work: Callable[[], Awaitable[Message]]) -> Message:
    return await work()


def _looked_at(task: "asyncio.Task[Message]") -> None:
    if not task.cancelled():
        task.exception()
