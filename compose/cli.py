"""`moorage`: the command line, put together from the folders' command groups.

What only one command needs is imported by that command: a node worker has no use for a database's libraries,
which would cost it 25 MB and a fifth of a second at start.
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from broker import commands as broker_commands
from compose import cni_commands, database_commands
from compose.doctor import commands as doctor_commands
from compose.logging import configure_logging
from compose.running import run_until_stopped
from compose.settings import Settings, read_settings
from console import addresses, dead, history, networks, nodes, pools, token_commands
from schemas.errors import ServiceError

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
    from compose.up import up as run_up

    settings: Settings = ctx.obj
    run_up(settings, (state_dir or settings.state_dir).absolute(), nodes_, _console())


@app.command()
def demo(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Option(help="where its state lives while it runs")] = Path(".state"),
    shim: Annotated[Path, typer.Option(help="the CNI executable")] = _SHIM,
) -> None:
    """Tell the main job as a story that checks each of its steps."""
    from compose.demo.run import demo as tell_demo

    raise typer.Exit(tell_demo(ctx.obj, folder.absolute(), shim.absolute(), _console()))


@app.command()
def allocator(ctx: typer.Context) -> None:
    """Run an allocator."""
    from compose.allocator_process import run_allocator

    settings: Settings = ctx.obj
    configure_logging(settings.log_level, settings.log_format)
    run_until_stopped(run_allocator(settings))


@app.command()
def console(ctx: typer.Context) -> None:
    """Run the console's web side: REST under /api/v1, and the page."""
    from compose.console_process import run_console

    settings: Settings = ctx.obj
    configure_logging(settings.log_level, settings.log_format)
    run_until_stopped(run_console(settings))


@node_app.callback()
def node(ctx: typer.Context) -> None:
    """Run this machine's node worker, unless a command follows."""
    if ctx.invoked_subcommand is not None:
        return
    from compose.node_process import run_node

    settings: Settings = ctx.obj
    configure_logging(settings.log_level, settings.log_format)
    run_until_stopped(run_node(settings))


def _console() -> Console:
    """The terminal; wide enough for tables where the output goes into a file or a pipe."""
    console = Console()
    return console if console.is_terminal else Console(width=_PIPE_WIDTH)


def assemble() -> typer.Typer:
    """All command groups under one name."""
    broker_commands.register(app, node_app)
    nodes.register(node_app)
    cni_commands.register(app)
    doctor_commands.register(app)
    history.register(app)
    groups = {"network": networks, "pool": pools, "address": addresses, "dead": dead, "token": token_commands}
    for name, module in groups.items():
        group = typer.Typer(help=module.HELP, no_args_is_help=True)
        module.register(group)
        app.add_typer(group, name=name)
    app.add_typer(node_app, name="node")
    app.add_typer(database_commands.app, name="db")
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
