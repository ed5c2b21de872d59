"""`moorage`: the command line, put together from the folders' command groups."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from allocator import restoring, schema
from allocator.database import open_engine
from broker import commands as broker_commands
from broker.outcome import Unavailable
from compose import cni_commands
from compose.demo.run import demo as tell_demo
from compose.logging import configure_logging
from compose.processes import run_allocator, run_node, run_until_stopped
from compose.settings import Settings, need, read_settings
from compose.up import up as run_up
from console import addresses, history, networks, nodes, pools
from schemas.errors import Code, ServiceError

_SHIM = Path("build/cni/moorage")
_PIPE_WIDTH = 110

app = typer.Typer(
    name="moorage",
    help="Kubernetes pods keep their IP addresses.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="markdown",
)
node_app = typer.Typer(
    help="Run this machine's node worker; enroll, list, fence and remove nodes.", invoke_without_command=True
)
db_app = typer.Typer(help="The database: its schema, and life after a restored backup.", no_args_is_help=True)


@app.callback()
def _settings(ctx: typer.Context) -> None:
    if ctx.obj is None:  # tests bring their own
        ctx.obj = read_settings()
    # Commands tell of failures themselves; processes configure their own.
    configure_logging("error", "text")


@app.command()
def up(
    ctx: typer.Context,
    nodes_: Annotated[int, typer.Option("--nodes", min=1, max=20, help="simulated nodes")] = 2,
    state_dir: Annotated[Path | None, typer.Option(help="where broker and database keep their data")] = None,
) -> None:
    """Run everything on this machine in the foreground: services, allocator and simulated nodes."""
    settings: Settings = ctx.obj
    run_up(settings, (state_dir or settings.state_dir).absolute(), nodes_, _console())


@app.command()
def demo(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Option(help="where its state lives while it runs")] = Path(".state"),
    shim: Annotated[Path, typer.Option(help="the CNI executable")] = _SHIM,
) -> None:
    """Tell the main job as a story that checks each of its steps."""
    raise typer.Exit(tell_demo(ctx.obj, folder.absolute(), shim.absolute(), _console()))


@app.command()
def allocator(ctx: typer.Context) -> None:
    """Run an allocator."""
    settings: Settings = ctx.obj
    configure_logging(settings.log_level, settings.log_format)
    run_until_stopped(run_allocator(settings))


@node_app.callback()
def node(ctx: typer.Context) -> None:
    """Run this machine's node worker, unless a command follows."""
    if ctx.invoked_subcommand is not None:
        return
    settings: Settings = ctx.obj
    configure_logging(settings.log_level, settings.log_format)
    run_until_stopped(run_node(settings))


@db_app.command()
def upgrade(ctx: typer.Context) -> None:
    """Bring the database's schema up to this version. Safe to repeat."""
    with _database(ctx, "upgrade") as engine:
        typer.echo(f"the database is at revision {schema.upgrade(engine)}")


@db_app.command()
def restored(ctx: typer.Context) -> None:
    """Say that the database was restored from a backup. Run it BEFORE any allocator is started on it.

    Since the backup was made, pods have come and gone that it does not know. Paused, the allocators give no
    pod a new address; the nodes report what they have, and it is adopted. When `moorage node list` shows
    all nodes ready, `moorage db resume` lets pods get new addresses again.
    """
    with _database(ctx, "declare restored") as engine:
        epoch = restoring.declare_restored(engine)
        typer.echo(
            f"the database is in epoch {epoch}, and paused: start the allocators, wait until "
            "`moorage node list` shows all nodes ready, then run `moorage db resume`"
        )


@db_app.command()
def resume(ctx: typer.Context) -> None:
    """Let pods get new addresses again, after `moorage db restored`.

    Run it when the nodes have reported what they have: `moorage node list` shows which are ready. What a
    node reports later is no longer adopted by itself.
    """
    with _database(ctx, "resume") as engine:
        restoring.resume(engine)
        typer.echo("resumed: pods get new addresses again")


@contextmanager
def _database(ctx: typer.Context, what: str) -> Iterator[Engine]:
    """The database that the settings name, to do `what`. Raises `unavailable` where it cannot be used."""
    settings: Settings = ctx.obj
    engine = open_engine(need(settings.database_url, "DATABASE_URL", f"it names the database to {what}"))
    try:
        yield engine
    except (DBAPIError, Unavailable) as error:
        reason = error.orig if isinstance(error, DBAPIError) else error
        raise ServiceError(
            Code.UNAVAILABLE,
            f"the database cannot be used: {reason}. Look at MOORAGE_DATABASE_URL and at the server, then "
            "run this again",
        ) from error
    finally:
        engine.dispose()


def _console() -> Console:
    """The terminal; wide enough for tables where the output goes into a file or a pipe."""
    console = Console()
    return console if console.is_terminal else Console(width=_PIPE_WIDTH)


def assemble() -> typer.Typer:
    """All command groups under one name."""
    broker_commands.register(app, node_app)
    nodes.register(node_app)
    cni_commands.register(app)
    history.register(app)
    for name, module in (("network", networks), ("pool", pools), ("address", addresses)):
        group = typer.Typer(help=module.HELP, no_args_is_help=True)
        module.register(group)
        app.add_typer(group, name=name)
    app.add_typer(node_app, name="node")
    app.add_typer(db_app, name="db")
    return app


def main() -> None:
    """The entry point. A ServiceError is one line on stderr that says what to do, and exit status 1."""
    try:
        assemble()()
    except ServiceError as error:
        Console(stderr=True).print(f"moorage: {error.message}", highlight=False, markup=False)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
