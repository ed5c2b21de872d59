"""The `moorage` command groups over an allocator that answers from a table, and how tests run them."""

import io
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import typer
from typer.testing import CliRunner, Result

from console import addresses, dead, history, networks, nodes, pools
from schemas.message import Message, Request

Answers = Callable[[Any], Message | Exception]

ACTOR = "ann"
"""Whom commands ask for when nothing else is said."""
CTRL_C = "\x03"
URL = "amqp://console.ann:secret@127.0.0.1:5672/"


@dataclass
class FakeAllocator:
    """Answers each request by its type and remembers what was asked, with which patience."""

    answers: Mapping[type[Request], Answers]
    broker: str | None = URL
    timeout_s: float = 10
    asked: list[Any] = field(default_factory=list)
    patience: list[float] = field(default_factory=list)

    @asynccontextmanager
    async def connect(self, url: str, *, name: str) -> AsyncIterator["FakeAllocator"]:
        assert url == self.broker
        assert name == "console"
        yield self

    async def ask(self, request: Request, *, timeout_s: float = 10.0) -> Message:
        type(request).read(request.model_dump_json().encode())  # what is sent can be read
        self.asked.append(request)
        assert len(self.asked) < 100, "a command that asks for ever"
        self.patience.append(timeout_s)
        answer = self.answers[type(request)](request)
        if isinstance(answer, Exception):
            raise answer
        return answer


def moorage(markup: Literal["markdown", "rich"] = "markdown") -> typer.Typer:
    """The command groups, mounted as `moorage` mounts them."""
    app = typer.Typer(rich_markup_mode=markup)
    groups = {"network": networks, "pool": pools, "address": addresses, "node": nodes, "dead": dead}
    for name, noun in groups.items():
        group = typer.Typer()
        noun.register(group)
        app.add_typer(group, name=name)
    history.register(app)
    return app


def run(allocator: FakeAllocator, *command: str) -> Result:
    """One command against `allocator`, in something that is not a terminal."""
    return _ended(CliRunner(env={"MOORAGE_ACTOR": ACTOR}).invoke(moorage(), list(command), obj=allocator))


def run_at_a_terminal(allocator: FakeAllocator, typed: str, *command: str) -> Result:
    """One command against `allocator`, whose input is a terminal where a person types `typed`."""
    runner = _AtATerminal(typed, env={"MOORAGE_ACTOR": ACTOR})
    return _ended(runner.invoke(moorage(), list(command), obj=allocator))


class _Typed(io.StringIO):
    """What a person types. A terminal."""

    def isatty(self) -> bool:
        return True

    def readline(self, *size: int) -> str:
        line = super().readline(*size)
        if CTRL_C in line:
            raise KeyboardInterrupt
        return line


class _AtATerminal(CliRunner):
    def __init__(self, typed: str, env: Mapping[str, str]) -> None:
        super().__init__(env=env)
        self._typed = typed

    @contextmanager
    def isolation(self, *args: Any, **kwargs: Any) -> Iterator[tuple[io.BytesIO, io.BytesIO, io.BytesIO]]:
        with super().isolation(*args, **kwargs) as streams:
            sys.stdin = _Typed(self._typed)
            yield streams


def _ended(result: Result) -> Result:
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def document(result: Result) -> Any:
    """The one JSON document on stdout."""
    return json.loads(result.stdout)


def table(result: Result) -> list[list[str]]:
    """The table on stdout: for each line its cells."""
    return [
        [cell.strip() for cell in line.split("  ") if cell.strip()] for line in result.stdout.splitlines()
    ]
