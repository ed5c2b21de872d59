"""What can go wrong with private local services; each message says what to do about it."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from schemas.errors import Code, ServiceError

_TAKEN = ("eaddrinuse", "address already in use", "dist_port_already_used")
"""How Erlang and MariaDB say that somebody else has a port."""


_LINE = 300  # characters shown of a logged line: Erlang's go on for pages


class ProgramsMissing(ServiceError):
    """Programs of the servers are not installed."""

    def __init__(self, missing: Mapping[str, str]) -> None:
        packages = " ".join(sorted(set(missing.values())))
        super().__init__(
            Code.NOT_PROVISIONED,
            f"these programs are missing: {', '.join(sorted(missing))}. Install them as root with "
            f"`apt-get install {packages}` (`make demo` and `make test` do it where they can), or name "
            "servers that exist already in MOORAGE_AMQP_URL, MOORAGE_MANAGEMENT_URL and MOORAGE_DATABASE_URL",
            missing=sorted(missing),
        )


class NotStarted(ServiceError):
    """A server did not come up: it ended early, or was not ready in time. Carries the end of its log."""

    def __init__(self, name: str, what: str, advice: str, log: Path, tail: Iterable[str]) -> None:
        self.tail = tuple(tail)
        self.port_was_taken = any(words in line.lower() for words in _TAKEN for line in self.tail)
        said = "\n".join(f"  | {_short(line)}" for line in self.tail) or "  | (nothing)"
        super().__init__(
            Code.UNAVAILABLE,
            f"{name} {what}. {advice}. Its whole log is {log}; the end of it:\n{said}",
            retryable=False,
            service=name,
        )


def _short(line: str) -> str:
    return line if len(line) <= _LINE else f"{line[:_LINE]} ..."


class StateFolderUnusable(ServiceError):
    """The state folder is in use by somebody else, or what it holds cannot be used."""

    def __init__(self, folder: Path, why: str) -> None:
        super().__init__(
            Code.UNAVAILABLE, f"state folder {folder}: {why}", retryable=False, folder=str(folder)
        )
