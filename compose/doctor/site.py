"""Where the doctor looks: what the settings name, and what of it this user may ask."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from broker.inspection import user_of, vhost_of
from broker.login import Login
from broker.rpc import rpc_client
from cni.places import Places
from compose.doctor.verdict import Skipped
from compose.settings import Settings
from schemas.errors import Code, ServiceError
from schemas.message import Message, Page, Query, Request
from schemas.requests import MAY_SEND, sender

A = TypeVar("A", bound=Message)
P = TypeVar("P", bound=Page)
V = TypeVar("V")

ANSWER_S = 4.0
"""How long one thing may take to answer, in seconds: less than a check has."""
READ_S = 2.5
"""How long a check reads on, in seconds, where there is more than it can look at."""
_PAGE = 500


@dataclass(frozen=True)
class Site:
    """The settings of the process that looks, and where a CNI runtime looks on this machine."""

    settings: Settings
    places: Places

    @property
    def broker(self) -> Login:
        """The broker and the user to look as. Raises `Skipped`."""
        return _needed(self.settings.broker, "AMQP_URL")

    @property
    def management(self) -> Login:
        """The management API. Raises `Skipped`."""
        return _needed(self.settings.management, "MANAGEMENT_URL", "; an administrator of RabbitMQ has it")

    @property
    def database(self) -> Login:
        """The database. Raises `Skipped`."""
        return _needed(self.settings.database, "DATABASE_URL", "; run it where an allocator runs")

    @property
    def node(self) -> str:
        """The node that this machine is. Raises `Skipped`."""
        return _needed(self.settings.node_name, "NODE_NAME", "; run it on a node, with its worker's settings")

    @property
    def vhost(self) -> str:
        """The virtual host in use; RabbitMQ's default where no AMQP URL names one."""
        return vhost_of(self.settings.broker) if self.settings.broker else "/"

    def asking(self) -> "Questions":
        """A way to ask the allocator queries. Raises `Skipped` where this user may ask none."""
        url = self.broker
        role = sender(user_of(url))
        if role is None or "node.list" not in MAY_SEND[role[0]]:
            raise Skipped(
                f"user {user_of(url)} may ask the allocator nothing of this; "
                "run it with an operator's or a console's MOORAGE_AMQP_URL"
            )
        return Questions(url)


class Questions:
    """Queries to the allocator, each of them on a connection of its own."""

    def __init__(self, url: Login) -> None:
        self._url = url

    def ask(self, query: Request, answer: type[A]) -> A:
        """The answer. Raises ServiceError."""

        async def once() -> Message:
            async with rpc_client(self._url, name="doctor") as client:
                return await client.ask(query, timeout_s=ANSWER_S)

        return _checked(asyncio.run(once()), answer)

    def each(self, queries: list[Query], answer: type[A]) -> list[A]:
        """The answers of several, in order, asked together. Raises ServiceError."""

        async def all_of_them() -> list[Message]:
            async with rpc_client(self._url, name="doctor") as client:
                asked = [client.ask(query, timeout_s=ANSWER_S) for query in queries]
                return await asyncio.gather(*asked)

        return [_checked(found, answer) for found in asyncio.run(all_of_them())] if queries else []

    def pages(self, queries: Sequence[Query], answer: type[P]) -> tuple[list[P], bool]:
        """The pages of all `queries`, one after another, and whether that is all: it reads for 2.5 s."""

        async def turn() -> tuple[list[P], bool]:
            found: list[P] = []
            until = time.monotonic() + READ_S
            async with rpc_client(self._url, name="doctor") as client:
                for query in queries:
                    after: str | None = None
                    while time.monotonic() < until:
                        question = query.model_copy(update={"after": after, "limit": _PAGE})
                        page = _checked(await client.ask(question, timeout_s=ANSWER_S), answer)
                        found.append(page)
                        after = page.next
                        if after is None:
                            break
                    else:
                        return found, False
            return found, True

        return asyncio.run(turn())


def _checked(found: Message, answer: type[A]) -> A:
    if not isinstance(found, answer):
        raise ServiceError(Code.INTERNAL, f"the answer is a {type(found).__name__}; report this as a bug")
    return found


def _needed(value: V | None, name: str, where: str = "") -> V:
    if not value:
        raise Skipped(f"needs MOORAGE_{name}{where}")
    return value
