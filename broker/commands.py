"""Commands that set a broker up: `broker provision`, `node` and `client` `enroll` and `revoke`."""

import json
from pathlib import Path
from typing import Annotated, Protocol

import typer

from broker.handover import Handover, Output
from broker.login import Where
from broker.provisioning import (
    ClientRole,
    Enrolled,
    Revoked,
    disconnect,
    enroll_allocator,
    enroll_client,
    enroll_node,
    provision,
    revoke_client,
    revoke_node,
)
from schemas.errors import Code, ServiceError


class BrokerSettings(Protocol):
    """What typer's `ctx.obj` must have."""

    @property
    def management(self) -> Where | None:
        """`http://USER:PASSWORD@HOST:15672` with an administrator; None if it was not set."""
        ...


VhostOption = Annotated[str, typer.Option("--vhost", help="RabbitMQ's virtual host")]
AmqpOption = Annotated[
    str | None,
    typer.Option(
        "--amqp",
        metavar="HOST:PORT",
        help="where clients reach RabbitMQ, such as amqps://a:5671,b:5671 (default: found out)",
    ),
]
RotateOption = Annotated[bool, typer.Option("--rotate", help="give a user that exists a new password")]
WriteOption = Annotated[
    Path | None,
    typer.Option("--write", metavar="FILE", help="write the settings into FILE (mode 0600), not to stdout"),
]
UrlFileOption = Annotated[
    Path | None,
    typer.Option(
        "--url-file",
        metavar="FILE",
        help="write the URL alone into FILE (mode 0600), for MOORAGE_AMQP_URL_FILE",
    ),
]
DisconnectOption = Annotated[
    bool,
    typer.Option("--disconnect", help="with --rotate: close connections that the old password opened, too"),
]
NodeArgument = Annotated[str, typer.Argument(help="the Kubernetes node name")]
ClientArgument = Annotated[str, typer.Argument(help="who it is for")]
RoleOption = Annotated[ClientRole, typer.Option("--role", help="what it may ask")]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="for people or for programs")]


def register(app: typer.Typer, node_app: typer.Typer) -> None:
    """Add `broker` and `client` to `app`, and `enroll` and `revoke` to the `node` group."""
    broker_app = typer.Typer(help="Set up RabbitMQ.", no_args_is_help=True)
    broker_app.callback()(_group)
    broker_app.command("provision")(_provision)
    client_app = typer.Typer(help="Users for producers, operators and consoles.", no_args_is_help=True)
    client_app.callback()(_group)
    client_app.command("enroll")(_enroll_client)
    client_app.command("revoke")(_revoke_client)
    app.add_typer(broker_app, name="broker")
    app.add_typer(client_app, name="client")
    node_app.command("enroll")(_enroll_node)
    node_app.command("revoke")(_revoke_node)


def _group() -> None:
    """Keep a group with one command a group."""


def _provision(
    ctx: typer.Context,
    vhost: VhostOption = "/",
    amqp: AmqpOption = None,
    rotate: RotateOption = False,
    disconnect: DisconnectOption = False,
    write: WriteOption = None,
    url_file: UrlFileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Declare all exchanges and queues, and make the allocator's user. Safe to repeat."""
    url, handover = _management_url(ctx), Handover(output, write, url_file)
    handover.check()
    _check(rotate=rotate, disconnect=disconnect)
    done = provision(url, vhost=vhost, progress=lambda line: typer.echo(line, err=True))
    enrolled = enroll_allocator(url, vhost=vhost, amqp=amqp, rotate=rotate)
    handover.give(enrolled, {}, {"created": done.created, "existing": done.existing})
    _disconnect(url, enrolled, wanted=disconnect)


def _enroll_node(  # noqa: PLR0913, PLR0917  one argument for each option
    ctx: typer.Context,
    name: NodeArgument,
    vhost: VhostOption = "/",
    amqp: AmqpOption = None,
    rotate: RotateOption = False,
    disconnect: DisconnectOption = False,
    write: WriteOption = None,
    url_file: UrlFileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a user and a queue for one node, with permissions for its own work alone. Safe to repeat."""
    url, handover = _management_url(ctx), Handover(output, write, url_file)
    handover.check()
    _check(rotate=rotate, disconnect=disconnect)
    enrolled = enroll_node(url, name, vhost=vhost, amqp=amqp, rotate=rotate)
    handover.give(enrolled, {"MOORAGE_NODE_NAME": name})
    _disconnect(url, enrolled, wanted=disconnect)


def _enroll_client(  # noqa: PLR0913, PLR0917  one argument for each option
    ctx: typer.Context,
    name: ClientArgument,
    role: RoleOption,
    vhost: VhostOption = "/",
    amqp: AmqpOption = None,
    rotate: RotateOption = False,
    disconnect: DisconnectOption = False,
    write: WriteOption = None,
    url_file: UrlFileOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a user for a program or a person that asks things. Safe to repeat."""
    url, handover = _management_url(ctx), Handover(output, write, url_file)
    handover.check()
    _check(rotate=rotate, disconnect=disconnect)
    enrolled = enroll_client(url, name, role, vhost=vhost, amqp=amqp, rotate=rotate)
    handover.give(enrolled, {})
    _disconnect(url, enrolled, wanted=disconnect)


def _revoke_node(
    ctx: typer.Context, name: NodeArgument, vhost: VhostOption = "/", output: OutputOption = Output.TABLE
) -> None:
    """Take a node's user and queue away, and close its connections. Pods that run keep their networking.

    Nothing can be attached there until it is enrolled again. Its addresses stay its pods': `moorage node
    fence` says that the node is off, `moorage node remove` forgets it.
    """
    _show_revoked(revoke_node(_management_url(ctx), name, vhost=vhost), output)


def _revoke_client(
    ctx: typer.Context,
    name: ClientArgument,
    role: RoleOption,
    vhost: VhostOption = "/",
    output: OutputOption = Output.TABLE,
) -> None:
    """Take a user away, with its queue of events, and close its connections."""
    _show_revoked(revoke_client(_management_url(ctx), name, role, vhost=vhost), output)


def _show_revoked(revoked: Revoked, output: Output) -> None:
    if output is Output.JSON:
        typer.echo(json.dumps({"user": revoked.user, "existed": revoked.existed}))
    else:
        typer.echo(f"user      {revoked.user}: {'revoked' if revoked.existed else 'there was none'}")


def _check(*, rotate: bool, disconnect: bool) -> None:
    """Before anything is changed. Whoever has the password, it lets him in again where it stays."""
    if disconnect and not rotate:
        raise ServiceError(
            Code.INVALID_REQUEST,
            "--disconnect closes what an old password has opened: give --rotate too, for a new password",
        )


def _disconnect(url: Where, enrolled: Enrolled, *, wanted: bool) -> None:
    """Close what an old password has opened, where that is wanted and there is a new one."""
    if wanted and enrolled.password is not None:
        disconnect(url, enrolled.user)
        typer.echo("Its open connections were closed.", err=True)


def _management_url(ctx: typer.Context) -> Where:
    settings: BrokerSettings = ctx.obj
    if not settings.management:
        raise ServiceError(
            Code.NOT_PROVISIONED,
            "MOORAGE_MANAGEMENT_URL is not set: it must be http://USER:PASSWORD@HOST:15672, RabbitMQ's "
            "management API with an administrator; `moorage up` prints its own",
        )
    return settings.management
