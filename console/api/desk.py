"""The one way from the console to the allocator: nothing is asked and nothing told but what may be."""

from typing import TypeVar

from console.access import permits
from console.access.identity import Identity
from console.access.tenancy import Tenancy
from console.session import Asker
from schemas.errors import Code, ServiceError
from schemas.message import Administrative, Message, Request

Expected = TypeVar("Expected", bound=Message)


class Desk:
    """Asks for an identity. Raises ServiceError and nothing else.

    Whatever is asked passes `permits.check`; what a tenant asks is held against its namespaces before, and
    what it is told after. Changes carry the identity's name as their actor.
    """

    def __init__(self, asker: Asker, timeout_s: float = 10.0) -> None:
        self._asker = asker
        self.timeout_s = timeout_s

    async def ask(
        self,
        identity: Identity,
        request: Request,
        answer: type[Expected],
        *,
        timeout_s: float | None = None,
    ) -> Expected:
        """The answer of `request`, within `timeout_s` seconds, as this identity may see it."""
        permits.check(identity, request)
        if isinstance(request, Administrative):
            request = request.model_copy(update={"actor": identity.name})
        if not identity.confined:
            return _checked(await self._ask(request, timeout_s), answer)
        tenancy = Tenancy(identity, self._ask)
        request = await tenancy.held_against(request)
        try:
            found = await tenancy.answered(request) or await self._ask(request, timeout_s)
        except ServiceError as error:
            raise permits.seen_error(identity, error) from error
        return _checked(await tenancy.narrowed(request, found), answer)

    async def _ask(self, request: Request, timeout_s: float | None = None) -> Message:
        return await self._asker.ask(request, timeout_s=timeout_s or self.timeout_s)


def _checked(found: Message, answer: type[Expected]) -> Expected:
    if not isinstance(found, answer):
        raise ServiceError(
            Code.INTERNAL,
            f"the answer is a {type(found).__name__}, not a {answer.__name__}; report this as a bug",
        )
    return found
