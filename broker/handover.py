"""How a user that was just made reaches whoever will be it: on the terminal this once, or in a file."""

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import typer

from broker.provisioning import Enrolled
from schemas.errors import Code, ServiceError


class Output(StrEnum):
    """How a command prints what it did."""

    TABLE = "table"
    JSON = "json"


@dataclass(frozen=True)
class Handover:
    """Where the URL goes: `settings_file` takes it as a setting, `url_file` takes it alone."""

    output: Output
    settings_file: Path | None = None
    url_file: Path | None = None

    def check(self) -> None:
        """Before anything is changed: a new password that cannot be written down would be lost.

        Raises `invalid_request`.
        """
        for file in self._files():
            if file.is_dir() or not (file.parent.is_dir() and os.access(file.parent, os.W_OK)):
                raise ServiceError(
                    Code.INVALID_REQUEST,
                    f"{file} cannot be written: it must be a file in a folder that exists and is writable",
                )

    def give(
        self,
        enrolled: Enrolled,
        settings: Mapping[str, str],
        extra: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Write and print what there is to tell. Raises `invalid_request` where files stay as they are.

        `settings` go with the URL into the file of settings; `extra` is told to programs.
        """
        shown: dict[str, object] = {"user": enrolled.user, **(extra or {})}
        files = self._files()
        written = bool(files) and enrolled.password is not None
        if written:
            self._write(enrolled, settings)
            shown |= {name: str(file) for name, file in self._named().items()}
        else:
            shown |= {"amqp_url": enrolled.amqp_url, "password": enrolled.password}
        if self.output is Output.JSON:
            typer.echo(json.dumps(shown))
        else:
            self._show_lines(enrolled, written=written)
        if files and not written:
            raise ServiceError(
                Code.INVALID_REQUEST,
                f"user {enrolled.user} exists and keeps its password, so nothing was written to "
                f"{' and '.join(map(str, files))}: --rotate gives it a new one",
            )

    def _named(self) -> dict[str, Path]:
        named = {"file": self.settings_file, "url_file": self.url_file}
        return {name: file for name, file in named.items() if file is not None}

    def _files(self) -> list[Path]:
        return list(self._named().values())

    def _write(self, enrolled: Enrolled, settings: Mapping[str, str]) -> None:
        if self.settings_file is not None:
            lines = {"MOORAGE_AMQP_URL": enrolled.amqp_url, **settings}
            _replace(self.settings_file, "".join(f"{key}={value}\n" for key, value in lines.items()))
        if self.url_file is not None:
            _replace(self.url_file, f"{enrolled.amqp_url}\n")

    def _show_lines(self, enrolled: Enrolled, *, written: bool) -> None:
        typer.echo(f"user      {enrolled.user}")
        if written:
            for file in self._files():
                typer.echo(f"file      {file}")
        elif enrolled.password is None:
            typer.echo(f"AMQP URL  {enrolled.amqp_url}  (it keeps its password; --rotate gives a new one)")
        else:
            typer.echo(f"AMQP URL  {enrolled.amqp_url}")
            typer.echo("The password is shown this once. Set MOORAGE_AMQP_URL to the URL.", err=True)


def _replace(target: Path, text: str) -> None:
    """Replace `target` at once by a file that only its owner reads; systemd can use it as EnvironmentFile.

    The owner stays who it was. Raises `internal` where the file stays as it is.
    """
    try:
        _put(target, text)
    except OSError as error:
        raise ServiceError(
            Code.INTERNAL,
            f"{target} could not be written ({error.strerror or error}) and is as it was, but RabbitMQ has "
            "the new password already: mend that, and give the user another one with --rotate",
        ) from error


def _put(target: Path, text: str) -> None:
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "w") as file:
            with suppress(FileNotFoundError, PermissionError):
                before = target.stat()
                os.fchown(descriptor, before.st_uid, before.st_gid)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        Path(name).replace(target)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise
