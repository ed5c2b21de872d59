"""How a node asks the allocator, and which failures leave open whether the request was applied."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from schemas.errors import Code, ServiceError
from schemas.message import Message, Request

A = TypeVar("A", bound=Message)

_OPEN = frozenset({Code.UNAVAILABLE, Code.TIMEOUT, Code.NOT_PROVISIONED, Code.INTERNAL})


class Ask(Protocol):
    """`broker.rpc.RpcClient.ask`, or a fake in unit tests."""

    async def __call__(
        self, request: Request, *, timeout_s: float = 10.0, taken: Callable[[], None] | None = None
    ) -> Message:
        """The answer, an instance of `request.ANSWER`. Raises ServiceError and nothing else.

        `taken` is called when the broker has the request, if that is known before the answer.
        """


async def ask_for(
    answer: type[A], ask: Ask, request: Request, timeout_s: float, taken: Callable[[], None] | None = None
) -> A:
    """What `ask` answers, within `timeout_s` seconds. Raises ServiceError."""
    reply = await ask(request, timeout_s=timeout_s, taken=taken)
    if not isinstance(reply, answer):
        raise ServiceError(
            Code.INTERNAL,
            f"{request.NAME} was answered with a {type(reply).__name__}: update the node worker",
        )
    return reply


def left_open(error: ServiceError) -> bool:
    """Whether nobody knows if the request was, or will be, applied: repeat it, or take it back."""
    return error.code in _OPEN
