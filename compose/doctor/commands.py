"""`moorage doctor`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from compose.doctor.verdict import Finding, Report
from compose.settings import Settings
from console.failure import show_failure
from console.output import Column, OutputOption, draw_rows, say, show
from schemas.errors import ServiceError

EXIT_CODES = "  \n".join(
    (
        "Exit codes",
        "  0  nothing failed",
        "  1  a check failed, or warned where --strict was given",
        "  2  the command line cannot be used",
    )
)

_STYLES = {"fail": "red", "warn": "yellow"}

_Only = Annotated[
    str,
    typer.Option("--only", metavar="NAME,...", help="these checks alone, by the names in the first column"),
]
_Strict = Annotated[bool, typer.Option("--strict", help="let warnings count as failures")]
_BinDir = Annotated[Path, typer.Option(metavar="FOLDER", help="where the runtime looks for CNI executables")]
_ConfDir = Annotated[
    Path, typer.Option(metavar="FOLDER", help="where the runtime looks for CNI configurations")
]


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("doctor", epilog=EXIT_CODES)(doctor)


def doctor(
    ctx: typer.Context,
    only: _Only = "",
    strict: _Strict = False,
    bin_dir: _BinDir = Path("/opt/cni/bin"),
    conf_dir: _ConfDir = Path("/etc/cni/net.d"),
    output: OutputOption = "table",
) -> None:
    """Look at broker, database, allocator, cluster and this node, and say what to do next. Changes nothing.

    It sees what the settings it runs with let it see, and skips the rest: MOORAGE_AMQP_URL of an operator,
    MOORAGE_MANAGEMENT_URL, MOORAGE_DATABASE_URL, and on a node the settings of its node worker.
    """
    from cni.places import Places
    from compose.doctor.examining import chosen, examine
    from compose.doctor.site import Site

    settings: Settings = ctx.obj
    try:
        checks = chosen(only.split(","))
    except ServiceError as error:
        show_failure(error, output)
        raise typer.Exit(2) from error
    report = examine(
        Site(settings, Places(bin_dir.absolute(), conf_dir.absolute(), settings.cni_socket)), checks
    )
    show(report, output, _draw)
    states = {item.state for item in report.findings}
    if "fail" in states or (strict and "warn" in states):
        raise typer.Exit(1)


def _draw(console: Console, report: Report) -> None:
    columns: tuple[Column[Finding], ...] = (
        Column("CHECK", lambda item: item.check),
        Column("STATE", lambda item: item.state),
        Column("FOUND", lambda item: item.found, folds=True),
    )
    draw_rows(console, columns, report.findings)
    for item in report.findings:
        if item.advice is not None and item.state != "skip":
            say(f"{item.check}: {item.advice}", style=_STYLES.get(item.state, ""))
