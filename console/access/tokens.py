"""Bearer tokens: made here, kept as hashes in a file that every console reads again when it changed.

A token is `moorage_<name>_<secret>`, the secret 256 random bits. What is kept is its SHA-256: against so
many bits there is nothing to be gained by a slow hash, and each request checks one.
"""

import contextlib
import fcntl
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from console.access.identity import Identity, Role
from schemas.errors import Code, ServiceError
from schemas.fields import Time
from schemas.validation import explain

_PREFIX = "moorage"
_SECRET_BYTES = 32
_MOST_BYTES = 4 << 20

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$")]
Namespace = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
_NAMED = re.compile(rf"{_PREFIX}_([a-z0-9.-]{{1,63}})_([A-Za-z0-9_-]{{43}})")


class Token(BaseModel):
    """What the file keeps of a token: everything but the token."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    role: Role
    namespaces: tuple[Namespace, ...] = ()
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    created_at: Time
    expires_at: Time | None = None

    @model_validator(mode="after")
    def _confined(self) -> Self:
        if (self.role == "tenant") != bool(self.namespaces):
            raise ValueError("a tenant has namespaces, and nobody else has")
        return self

    @property
    def identity(self) -> Identity:
        """Whom it stands for."""
        return Identity(self.name, self.role, frozenset(self.namespaces))

    def expired(self, now: datetime) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and now >= self.expires_at


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: tuple[Token, ...] = Field(default=())

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        names = [token.name for token in self.tokens]
        if len(set(names)) < len(names):
            raise ValueError("two tokens have one name")
        return self


class Tokens:
    """The tokens in a file, as they are now. A file that is not there holds none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._by_name: Mapping[str, Token] = {}

    def identify(self, presented: str) -> Identity | None:
        """Whom a bearer token stands for; None for one that is unknown, revoked or expired.

        Raises ServiceError `not_provisioned` where the file cannot be used: nobody is let in by mistake.
        """
        match = _NAMED.fullmatch(presented)
        known = self.all().get(match[1]) if match else None
        expected = known.sha256 if known else "0" * 64
        same = hmac.compare_digest(_hashed(presented), expected)
        return known.identity if known and same and not known.expired(datetime.now(UTC)) else None

    def current(self, name: str) -> Identity | None:
        """Whom a token of this name stands for now; None where it was revoked or has expired."""
        known = self.all().get(name)
        return known.identity if known and not known.expired(datetime.now(UTC)) else None

    def all(self) -> Mapping[str, Token]:
        """All tokens by name, expired ones too. Raises `not_provisioned` where the file cannot be used."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            self._seen, self._by_name = None, {}
            return self._by_name
        except OSError as error:
            raise _unusable(self.path, error.strerror or str(error)) from error
        seen = (found.st_ino, found.st_mtime_ns, found.st_size)
        if seen != self._seen:
            self._by_name = {token.name: token for token in _read(self.path)}
            self._seen = seen
        return self._by_name

    def create(
        self, name: str, role: Role, namespaces: tuple[str, ...] = (), valid_for: timedelta | None = None
    ) -> str:
        """Make a token and keep its hash; the token itself is nowhere but in what this returns.

        Raises `invalid_request` (a name that is taken, or not one), `not_provisioned` (the file).
        """
        secret = f"{_PREFIX}_{name}_{secrets.token_urlsafe(_SECRET_BYTES)}"
        now = datetime.now(UTC)
        try:
            made = Token(
                name=name,
                role=role,
                namespaces=tuple(sorted(set(namespaces))),
                sha256=_hashed(secret),
                created_at=now,
                expires_at=None if valid_for is None else now + valid_for,
            )
        except ValidationError as error:
            raise ServiceError(Code.INVALID_REQUEST, explain(error)) from error
        with self._changing() as kept:
            if name in kept:
                raise ServiceError(
                    Code.INVALID_REQUEST,
                    f"there is a token {name} already: revoke it first (`moorage token revoke {name}`), or "
                    "choose another name",
                )
            kept[name] = made
        return secret

    def revoke(self, name: str) -> None:
        """Forget a token: from now on it opens nothing. Raises `invalid_request` where there is none."""
        with self._changing() as kept:
            if kept.pop(name, None) is None:
                raise ServiceError(
                    Code.INVALID_REQUEST, f"there is no token {name}; `moorage token list` shows all"
                )

    @contextlib.contextmanager
    def _changing(self) -> Iterator[dict[str, Token]]:
        """The tokens, to be changed by one process at a time; written whole or not at all."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(self.path.with_name(f".{self.path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise _unusable(self.path, error.strerror or str(error)) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            kept = dict(self.all())
            yield kept
            _write(self.path, _Kept(tokens=tuple(kept[name] for name in sorted(kept))))
        finally:
            os.close(lock)


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _read(path: Path) -> tuple[Token, ...]:
    try:
        with path.open("rb") as file:
            if _is_open_to_others(os.fstat(file.fileno())):
                raise _unusable(path, "others may read or write it: `chmod 600` it")
            return _Kept.model_validate_json(file.read(_MOST_BYTES)).tokens
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from error
    except ValidationError as error:
        raise _unusable(path, explain(error)) from error


def _is_open_to_others(file: os.stat_result) -> bool:
    """Whether anybody but us and the file's owner may use it.

    Where another owns it we read it as one of its group, as of a Secret that Kubernetes mounts with fsGroup.
    """
    private = 0o077 if file.st_uid == os.geteuid() else 0o037
    return bool(file.st_mode & private)


def _write(path: Path, kept: _Kept) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(kept.model_dump_json(indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise _unusable(path, error.strerror or str(error)) from error


def _unusable(path: Path, why: str) -> ServiceError:
    return ServiceError(
        Code.NOT_PROVISIONED,
        f"the tokens in {path} (MOORAGE_TOKENS_FILE) cannot be used: {why}. `moorage token create` makes it",
    )
