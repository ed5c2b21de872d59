"""Commands that set a broker up: `broker provision`, `node enroll`, `client enroll`."""

import json
import os
import tempfile
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Protocol

import typer

from broker.login import Where
from broker.provisioning import (
    ClientRole,
    Enrolled,
    enroll_allocator,
    enroll_client,
    enroll_node,
    provision,
)
from schemas.errors import Code, ServiceError


class BrokerSettings(Protocol):
    """What typer's `ctx.obj` must have."""

    @property
    def management(self) -> Where | None:
        """`http://USER:PASSWORD@HOST:15672` with an administrator; None if it was not set."""
        ...


class Output(StrEnum):
    """How a command prints what it did."""

    TABLE = "table"
    JSON = "json"


VhostOption = Annotated[str, typer.Option("--vhost", help="RabbitMQ's virtual host")]
AmqpOption = Annotated[
    str | None,
    typer.Option("--amqp", metavar="HOST:PORT", help="where clients reach RabbitMQ (default: found out)"),
]
RotateOption = Annotated[bool, typer.Option("--rotate", help="give a user that exists a new password")]
WriteOption = Annotated[
    Path | None,
    typer.Option("--write", metavar="FILE", help="write the settings into FILE (mode 0600), not to stdout"),
]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="for people or for programs")]


def register(app: typer.Typer, node_app: typer.Typer) -> None:
    """Add `broker provision` and `client enroll` to `app`, and `enroll` to the `node` group."""
    broker_app = typer.Typer(help="Set up RabbitMQ.", no_args_is_help=True)
    broker_app.callback()(_group)
    broker_app.command("provision")(_provision)
    client_app = typer.Typer(help="Users for producers, operators and consoles.", no_args_is_help=True)
    client_app.callback()(_group)
    client_app.command("enroll")(_enroll_client)
    app.add_typer(broker_app, name="broker")
    app.add_typer(client_app, name="client")
    node_app.command("enroll")(_enroll_node)


def _group() -> None:
    """Keep a group with one command a group."""


def _provision(
    ctx: typer.Context,
    vhost: VhostOption = "/",
    amqp: AmqpOption = None,
    rotate: RotateOption = False,
    write: WriteOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Declare all exchanges and queues, and make the allocator's user. Safe to repeat."""
    url = _management_url(ctx)
    _check_target(write)
    done = provision(url, vhost=vhost, progress=lambda line: typer.echo(line, err=True))
    enrolled = enroll_allocator(url, vhost=vhost, amqp=amqp, rotate=rotate)
    extra = {"created": list(done.created), "existing": list(done.existing)}
    _show(enrolled, {}, write, output, extra)


def _enroll_node(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="the Kubernetes node name")],
    vhost: VhostOption = "/",
    amqp: AmqpOption = None,
    rotate: RotateOption = False,
    write: WriteOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a user and a queue for one node, with permissions for its own work alone. Safe to repeat."""
    url = _management_url(ctx)
    _check_target(write)
    enrolled = enroll_node(url, name, vhost=vhost, amqp=amqp, rotate=rotate)
    _show(enrolled, {"MOORAGE_NODE_NAME": name}, write, output)


def _enroll_client(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="who it is for")],
    role: Annotated[ClientRole, typer.Option("--role", help="what it may ask")],
    vhost: VhostOption = "/",
    amqp: AmqpOption = None,
    rotate: RotateOption = False,
    write: WriteOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a user for a program or a person that asks things. Safe to repeat."""
    url = _management_url(ctx)
    _check_target(write)
    enrolled = enroll_client(url, name, role, vhost=vhost, amqp=amqp, rotate=rotate)
    _show(enrolled, {}, write, output)


def _management_url(ctx: typer.Context) -> Where:
    settings: BrokerSettings = ctx.obj
    if not settings.management:
        raise ServiceError(
            Code.NOT_PROVISIONED,
            "MOORAGE_MANAGEMENT_URL is not set: it must be http://USER:PASSWORD@HOST:15672, RabbitMQ's "
            "management API with an administrator; `moorage up` prints its own",
        )
    return settings.management


def _check_target(write: Path | None) -> None:
    """Before anything is changed: a new password that cannot be written down would be lost."""
    if write is not None and not (write.parent.is_dir() and os.access(write.parent, os.W_OK)):
        raise ServiceError(
            Code.INVALID_REQUEST, f"{write} cannot be written: there is no writable folder {write.parent}"
        )


def _show(
    enrolled: Enrolled,
    settings: dict[str, str],
    write: Path | None,
    output: Output,
    extra: dict[str, list[str]] | None = None,
) -> None:
    shown: dict[str, object] = {"user": enrolled.user, **(extra or {})}
    if write is not None and enrolled.password is not None:
        _write(write, {"MOORAGE_AMQP_URL": enrolled.amqp_url, **settings})
        shown["file"] = str(write)
    else:
        shown["amqp_url"] = enrolled.amqp_url
        shown["password"] = enrolled.password
    if output is Output.JSON:
        typer.echo(json.dumps(shown))
    else:
        _show_lines(enrolled, write)
    if write is not None and enrolled.password is None:
        raise ServiceError(
            Code.INVALID_REQUEST,
            f"user {enrolled.user} exists and keeps its password, so nothing was written to {write}: "
            "--rotate gives it a new one",
        )


def _show_lines(enrolled: Enrolled, write: Path | None) -> None:
    typer.echo(f"user      {enrolled.user}")
    if enrolled.password is None:
        typer.echo(f"AMQP URL  {enrolled.amqp_url}  (it keeps its password; --rotate gives a new one)")
    elif write is not None:
        typer.echo(f"file      {write}")
    else:
        typer.echo(f"AMQP URL  {enrolled.amqp_url}")
        typer.echo("The password is shown this once. Set MOORAGE_AMQP_URL to the URL.", err=True)


def _write(target: Path, lines: dict[str, str]) -> None:
    """Replace `target` at once by a file that only its owner reads; systemd can use it as EnvironmentFile."""
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.writelines(f"{key}={value}\n" for key, value in lines.items())
        Path(name).replace(target)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise
