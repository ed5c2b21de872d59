"""What a process says of its own state when it is asked over HTTP."""

from typing import Self

from schemas.message import Message


class Check(Message):
    """One thing that has to be so. `message` says what is wrong and what to do, or what is worth knowing."""

    name: str
    ok: bool
    message: str = ""


class Health(Message):
    """All checks of one question: is it alive, is it ready."""

    ok: bool
    checks: tuple[Check, ...] = ()

    @classmethod
    def of(cls, *checks: Check) -> Self:
        """Good where every check is."""
        return cls(ok=all(check.ok for check in checks), checks=checks)
