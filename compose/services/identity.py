"""The names and passwords of one state folder: made once, kept in a file that only its owner reads."""

import json
import os
import secrets
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from compose.services.errors import StateFolderUnusable

_FILE = "services.json"


@dataclass(frozen=True)
class Identity:
    """What makes a state folder's servers its own."""

    node: str
    """RabbitMQ's node name; a folder may move, so it is not made from the path."""
    cookie: str = field(repr=False)
    broker_password: str = field(repr=False)
    database_password: str = field(repr=False)
    database_admin_password: str = field(repr=False)


def ensure_identity(state_dir: Path, *, data_exists: bool) -> Identity:
    """The folder's identity; a fresh one if it has none and no data yet.

    Raises `StateFolderUnusable` if the file cannot be read, or is gone while the data it opens is there.
    """
    file = state_dir / _FILE
    if file.exists():
        return _read(file)
    if data_exists:
        raise StateFolderUnusable(
            state_dir, f"its data is there but {_FILE}, which holds the passwords, is gone: remove the folder"
        )
    identity = Identity(
        f"moorage-{secrets.token_hex(4)}@localhost", *(secrets.token_hex(16) for _ in range(4))
    )
    write_private(file, json.dumps(asdict(identity), indent=2))
    return identity


def write_private(file: Path, text: str) -> None:
    """Write a whole file that only its owner can read, or leave the old one as it was."""
    fresh = file.with_name(file.name + ".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as out:  # noqa: PTH123  a descriptor has no path
        out.write(text)
        out.flush()
        os.fsync(descriptor)
    fresh.replace(file)


def _read(file: Path) -> Identity:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return Identity(**{wanted.name: str(found[wanted.name]) for wanted in fields(Identity)})
    except (ValueError, TypeError, KeyError) as error:
        raise StateFolderUnusable(
            file.parent, f"{_FILE} cannot be read ({error}): remove the folder to start anew"
        ) from error
