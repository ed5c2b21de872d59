"""One command from its request to its end: asked over RabbitMQ, failures told, the exit code kept.

Exit codes
  0  done
  1  the request was refused; the message says why
  2  the command line or a value in it cannot be used; nothing was changed
  3  RabbitMQ or the allocator cannot be reached, is not set up or is paused
  4  this user may not ask this
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager, nullcontext
from typing import Annotated, Protocol, TypeVar

import typer
from pydantic import ValidationError

from broker.login import Where
from broker.rpc import rpc_client
from console.failure import show_failure
from console.output import Output, say, stderr
from console.rollout_bar import rollout_bar
from schemas.errors import Code, ServiceError
from schemas.message import Message, Page, Query, Request
from schemas.network import NetworkView
from schemas.validation import explain

EXIT_CODES = ("Exit codes" + (__doc__ or "").partition("Exit codes")[2].rstrip()).replace("\n", "  \n")
"""The table above, for the end of every `--help`. Two blanks before a line's end keep it in Markdown."""

LimitOption = Annotated[
    int | None, typer.Option("--limit", min=1, help="stop after this many rows (default: all)")
]
RequestIdOption = Annotated[
    str | None,
    typer.Option("--request-id", help="names this attempt when you repeat it (default: a new one)"),
]

_PAGE = 100
"""Rows asked for at a time."""

_REFUSED = 1
_EXIT: Mapping[str, int] = {
    Code.INVALID_REQUEST: 2,
    Code.TOO_LARGE: 2,
    Code.UNAVAILABLE: 3,
    Code.TIMEOUT: 3,
    Code.PAUSED: 3,
    Code.NOT_PROVISIONED: 3,
    Code.SENDER_FORBIDDEN: 4,
}
_OUTCOME_UNKNOWN = frozenset({Code.UNAVAILABLE, Code.TIMEOUT})

Expected = TypeVar("Expected", bound=Message)
Paged = TypeVar("Paged", bound=Page)


class Asker(Protocol):
    """What sends a request and brings its answer, an instance of `request.ANSWER`; raises ServiceError."""

    async def ask(self, request: Request, *, timeout_s: float = 10.0) -> Message:
        """The answer, within `timeout_s` seconds."""
        ...


class Connect(Protocol):
    """How an `Asker` is come by: `broker.rpc.rpc_client`, or a stand-in."""

    def __call__(self, url: Where, *, name: str) -> AbstractAsyncContextManager[Asker]:
        """An asker for as long as the context lasts."""
        ...


class ConsoleSettings(Protocol):
    """What typer's `ctx.obj` must have. If it also has a `connect` (a `Connect`), that is used."""

    @property
    def broker(self) -> Where | None:
        """RabbitMQ with the user's name and password; None if it was not set."""
        ...

    @property
    def timeout_s(self) -> float:
        """How long a command waits for an answer, in seconds."""
        ...


class Session:
    """What a command asks through. Raises ServiceError; `asking` turns that into an exit code."""

    def __init__(self, settings: ConsoleSettings) -> None:
        self.settings = settings
        self.connect: Connect = getattr(settings, "connect", rpc_client)
        self.repeating: list[str] = []
        """Options that make the command, run again, the same request; a lookup may have stood for them."""

    @property
    def timeout_s(self) -> float:
        """How long an answer may take, in seconds."""
        return self.settings.timeout_s

    def ask(
        self,
        request: Request,
        answer: type[Expected],
        *,
        longer_s: float = 0,
        doing: str = "Asking the allocator",
    ) -> Expected:
        """The answer of `request`, which may take `longer_s` seconds more than usual if it is repeatable."""
        with _spinner(doing):
            return asyncio.run(self._one(request, answer, longer_s))

    def ask_nodes(self, request: Request, network: str, *, longer_s: float, doing: str) -> NetworkView:
        """As `ask`, for a change that the nodes carry out, with a bar over them meanwhile."""
        return asyncio.run(self._one(request, NetworkView, longer_s, network, doing))

    def ask_pages(self, query: Query, answer: type[Paged], rows: str, limit: int | None) -> Paged:
        """All pages of `query` joined into one, or the first `limit` rows of them.

        `rows` names the field that holds a page's rows. The answer's `next` is None unless `limit` cut it.
        """
        with _spinner("Asking the allocator"):
            page = asyncio.run(self._pages(query, answer, rows, limit))
        if page.next is not None:
            say(f"There are more than these {len(getattr(page, rows))}: raise --limit or leave it out.")
        return page

    async def _one(
        self,
        request: Request,
        answer: type[Expected],
        longer_s: float,
        network: str | None = None,
        doing: str = "",
    ) -> Expected:
        async with self.connect(self.url(), name="console") as asker:
            bar = rollout_bar(asker, network, doing) if network is not None else nullcontext()
            async with bar:
                return _checked(await self._patiently(asker, request, longer_s), answer)

    async def _patiently(self, asker: Asker, request: Request, longer_s: float) -> Message:
        try:
            return await asker.ask(request, timeout_s=self.settings.timeout_s)
        except ServiceError as error:
            if error.code != Code.TIMEOUT or not longer_s:
                raise
        # It was sent and is being worked on: asked again, we join those who wait for its answer.
        # One long wait instead would also wait that long for a broker that is not there.
        return await asker.ask(request, timeout_s=longer_s)

    async def _pages(self, query: Query, answer: type[Paged], rows: str, limit: int | None) -> Paged:
        found: list[Message] = []
        after: str | None = None
        async with self.connect(self.url(), name="console") as asker:
            while True:
                wanted = _PAGE if limit is None else min(_PAGE, limit - len(found))
                turn = query.model_copy(update={"after": after, "limit": wanted})
                page = _checked(await asker.ask(turn, timeout_s=self.settings.timeout_s), answer)
                found += getattr(page, rows)
                if page.next is None or (limit is not None and len(found) >= limit):
                    return page.model_copy(update={rows: tuple(found)})
                after = _onward(page.next, after)

    def url(self) -> Where:
        """Where to ask. Raises `not_provisioned`."""
        if not self.settings.broker:
            raise ServiceError(
                Code.NOT_PROVISIONED,
                "MOORAGE_AMQP_URL is not set: it names RabbitMQ and the user to ask as. "
                "`moorage client enroll NAME --role console` makes such a user; "
                "`moorage up` starts everything on this machine and prints the settings to use",
            )
        return self.settings.broker


@contextmanager
def asking(ctx: typer.Context, output: Output, *, request_id: str | None = None) -> Iterator[Session]:
    """A session for one command; a failure inside is shown and ends the command with its exit code.

    `request_id` names a change: where its outcome is unknown, people are told how to ask again safely.
    """
    session = Session(ctx.obj)
    try:
        yield session
    except ValidationError as error:
        refusal = ServiceError(Code.INVALID_REQUEST, explain(error))
        show_failure(refusal, output)
        raise typer.Exit(_EXIT[Code.INVALID_REQUEST]) from error
    except ServiceError as error:
        unknown = error.code in _OUTCOME_UNKNOWN
        if unknown and request_id:
            error.fields = {**error.fields, "request_id": request_id}
        show_failure(error, output, advice=_advice(request_id, session) if unknown else None)
        raise typer.Exit(_EXIT.get(error.code, _REFUSED)) from error
    except KeyboardInterrupt:
        advice = _advice(request_id, session)
        if advice:
            say(advice)
        raise


def _advice(request_id: str | None, session: Session) -> str | None:
    """How to ask for a change of unknown outcome again; None for what changes nothing."""
    if request_id is None:
        return None
    options = " ".join(["--request-id", request_id, *session.repeating])
    return (
        f"It may or may not have been carried out. Run the same command again with {options}: however often "
        "it is asked, it is carried out once."
    )


def _checked(message: Message, answer: type[Expected]) -> Expected:
    if not isinstance(message, answer):
        raise ServiceError(
            Code.INTERNAL,
            f"the answer is a {type(message).__name__}, not a {answer.__name__}; report this as a bug",
        )
    return message


def _onward(cursor: str, before: str | None) -> str:
    """The next cursor; one that stands still would be asked for ever."""
    if cursor == before:
        raise ServiceError(
            Code.INTERNAL, f"the allocator's pages do not go on after {cursor}; report this as a bug"
        )
    return cursor


def _spinner(doing: str) -> AbstractContextManager[object]:
    console = stderr()
    return console.status(doing) if console.is_terminal else nullcontext()
