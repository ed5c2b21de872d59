"""`moorage cni install|uninstall|status`: the CNI plugin on the machine that the command runs on."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cni.conflist import CHAINABLE, Wanted
from cni.inspection import Finding, Inspected, inspect
from cni.installer import Installed, Uninstalled, install, uninstall
from cni.keeping import Keeper
from cni.places import Places
from compose.cni_keeping import keep_looking
from compose.settings import Settings
from console.failure import show_failure
from console.output import Column, Output, OutputOption, draw_facts, draw_rows, say, show
from schemas.errors import ServiceError

HELP = "The CNI plugin on this machine: install, uninstall, status."

_BUILT = (
    Path(sys.prefix) / "libexec" / "moorage-cni",  # compose/Dockerfile
    Path(__file__).resolve().parent.parent / "build" / "cni" / "moorage",
)
_CONF_DIR = Path("/etc/cni/net.d")
_BIN_DIR = Path("/opt/cni/bin")

_BinDir = Annotated[Path, typer.Option(metavar="FOLDER", help="where the runtime looks for CNI executables")]
_ConfDir = Annotated[
    Path, typer.Option(metavar="FOLDER", help="where the runtime looks for CNI configurations")
]
_Socket = Annotated[
    Path | None,
    typer.Option(metavar="PATH", help="the node worker's socket (default: MOORAGE_CNI_SOCKET's, as its own)"),
]
_Network = Annotated[str | None, typer.Option(metavar="NAME", help="the network of pods that name none")]
_Pool = Annotated[str | None, typer.Option(metavar="NAME", help="the pool of pods that name none")]
_Name = Annotated[str, typer.Option(metavar="NAME", help="the configuration's name")]
_CniVersion = Annotated[
    str,
    typer.Option(
        metavar="VERSION",
        help="1.0.0 is the newest for containerd 1.6; 1.1.0 has STATUS, from containerd 2.1",
    ),
]
_Chain = Annotated[
    str,
    typer.Option(metavar="NAME,...", help=f"plugins to call after Moorage, of {', '.join(CHAINABLE)}"),
]
_Shim = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH", help="the executable to install (default: the image's, or that of `make shim`)"
    ),
]
_Wait = Annotated[
    float, typer.Option(metavar="SECONDS", min=0, help="how long the node worker has to become ready")
]
_NoWait = Annotated[bool, typer.Option("--no-wait", help="write the configuration whoever is ready")]
_Keep = Annotated[
    bool,
    typer.Option("--keep", help="stay, and put back what vanishes or differs; SIGTERM leaves all in place"),
]
_ShimOnly = Annotated[
    bool, typer.Option("--shim-only", help="no configuration: another plugin, or Multus, is the runtime's")
]
_Force = Annotated[
    bool, typer.Option("--force", help="overwrite files of these names that are not Moorage's")
]
_ShimToo = Annotated[
    bool, typer.Option("--shim-too", help="remove the executable too: no pod that Moorage attached is left")
]


def register(app: typer.Typer) -> None:
    """Add the group `cni` to `app`."""
    group = typer.Typer(help=HELP, no_args_is_help=True)
    group.command("install")(_install)
    group.command("uninstall")(_uninstall)
    group.command("status")(_status)
    app.add_typer(group, name="cni")


def _install(  # noqa: PLR0913, PLR0917  one argument for each option
    ctx: typer.Context,
    network: _Network = None,
    pool: _Pool = None,
    name: _Name = "moorage",
    cni_version: _CniVersion = "1.0.0",
    chain: _Chain = "",
    bin_dir: _BinDir = _BIN_DIR,
    conf_dir: _ConfDir = _CONF_DIR,
    socket: _Socket = None,
    shim: _Shim = None,
    wait: _Wait = 60,
    no_wait: _NoWait = False,
    keep: _Keep = False,
    shim_only: _ShimOnly = False,
    force: _Force = False,
    output: OutputOption = "table",
) -> None:
    """Install the executable, wait for the node worker, then write the configuration list. Safe to repeat.

    A runtime takes the node for ready as soon as there is a configuration. So it comes last, and only when
    the node worker says that it can attach pods to the network.

    With --keep it waits for as long as that takes, and tells how it goes at MOORAGE_MONITORING.
    """
    wanted = None
    if not shim_only:
        if network is None:
            raise typer.BadParameter("name the network of pods that name none", param_hint="--network")
        wanted = Wanted(network, pool, name, cni_version, tuple(filter(None, chain.split(","))))
    places, source = _places(ctx, bin_dir, conf_dir, socket), _source(shim).absolute()
    with _failing(output):
        if keep:
            keeper = Keeper(places, wanted, source, wait=not no_wait, force=force, progress=say)
            keep_looking(keeper, ctx.obj)
            return
        wait_s = None if no_wait else wait
        done = install(places, wanted, source, wait_s=wait_s, force=force, progress=say)
        show(done, output, _draw_done)
        _notify(done.notices)


def _uninstall(
    ctx: typer.Context,
    bin_dir: _BinDir = _BIN_DIR,
    conf_dir: _ConfDir = _CONF_DIR,
    shim_too: _ShimToo = False,
    output: OutputOption = "table",
) -> None:
    """Remove the configuration list, so that runtimes attach no new pods. Safe to repeat.

    Better delete the pods first (kubectl drain): containerd cannot delete pods while it has no configuration.

    The executable stays for the DEL of pods that run, unless --shim-too says that there are none.
    """
    with _failing(output):
        done = uninstall(_places(ctx, bin_dir, conf_dir, None), shim_too=shim_too)
        show(done, output, _draw_done)
        _notify(done.notices)


def _status(
    ctx: typer.Context,
    bin_dir: _BinDir = _BIN_DIR,
    conf_dir: _ConfDir = _CONF_DIR,
    socket: _Socket = None,
    output: OutputOption = "table",
) -> None:
    """Say whether pods can be attached, part by part. Exit code 1 if not."""
    with _failing(output):
        found = inspect(_places(ctx, bin_dir, conf_dir, socket))
        show(found, output, _draw_findings)
    if not found.ok:
        raise typer.Exit(1)


def _source(named: Path | None) -> Path:
    """The executable to install: the one that was named, else what there is, else what there should be."""
    return named or next((path for path in _BUILT if path.is_file()), _BUILT[-1])


def _places(ctx: typer.Context, bin_dir: Path, conf_dir: Path, socket: Path | None) -> Places:
    settings: Settings = ctx.obj
    return Places(bin_dir.absolute(), conf_dir.absolute(), (socket or settings.cni_socket).absolute())


@contextmanager
def _failing(output: Output) -> Iterator[None]:
    """Show a failure as all commands do, and end with exit code 1."""
    try:
        yield
    except ServiceError as error:
        show_failure(error, output)
        raise typer.Exit(1) from error


def _draw_done(console: Console, done: Installed | Uninstalled) -> None:
    steps = [
        ("executable", f"{done.shim}: {done.shim_was}"),
        ("conflist", f"{done.conflist}: {done.conflist_was}"),
    ]
    draw_facts(console, steps)


def _notify(notices: tuple[str, ...]) -> None:
    for notice in notices:
        say(f"note: {notice}", style="yellow")


def _draw_findings(console: Console, inspected: Inspected) -> None:
    columns: tuple[Column[Finding], ...] = (
        Column("PART", lambda item: item.part),
        Column("STATE", lambda item: item.state),
        Column("FOUND", lambda item: f"{item.found}: {item.advice}" if item.advice else item.found),
    )
    draw_rows(console, columns, inspected.findings)
