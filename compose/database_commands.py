"""`moorage db`: the database's schema, and life after a restored backup.

Its libraries are imported by the commands: every other process of ours assembles this group, too.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from compose.settings import Settings, need

if TYPE_CHECKING:
    from sqlalchemy import Engine

app = typer.Typer(help="The database: its schema, and life after a restored backup.", no_args_is_help=True)


@app.command()
def upgrade(ctx: typer.Context) -> None:
    """Bring the database's schema up to this version. Safe to repeat."""
    from allocator import schema

    with _database(ctx, "upgrade") as engine:
        revision = schema.upgrade(engine)
        typer.echo(f"the database is at revision {revision}")
        if schema.is_newer(revision):
            typer.echo(
                f"a newer version made it: this one knows {schema.head()}, and changed nothing", err=True
            )


@app.command()
def restored(ctx: typer.Context) -> None:
    """Say that the database was restored from a backup. Run it BEFORE any allocator is started on it.

    Since the backup was made, pods have come and gone that it does not know. Paused, the allocators give no
    pod a new address; the nodes report what they have, and it is adopted. When `moorage node list` shows
    all nodes ready, `moorage db resume` lets pods get new addresses again.
    """
    from allocator import restoring

    with _database(ctx, "declare restored") as engine:
        epoch = restoring.declare_restored(engine)
        typer.echo(
            f"the database is in epoch {epoch}, and paused: start the allocators, wait until "
            "`moorage node list` shows all nodes ready, then run `moorage db resume`"
        )


@app.command()
def resume(ctx: typer.Context) -> None:
    """Let pods get new addresses again, after `moorage db restored`.

    Run it when the nodes have reported what they have: `moorage node list` shows which are ready. What a
    node reports later is no longer adopted by itself.
    """
    from allocator import restoring

    with _database(ctx, "resume") as engine:
        restoring.resume(engine)
        typer.echo("resumed: pods get new addresses again")


@contextmanager
def _database(ctx: typer.Context, what: str) -> Iterator["Engine"]:
    """The database that the settings name, to do `what`. Raises `unavailable` where it cannot be used."""
    from allocator.database import open_engine
    from compose.database_use import usable

    settings: Settings = ctx.obj
    url = need(settings.database, "DATABASE_URL", f"it names the database to {what}")
    with usable(open_engine(url)) as engine:
        yield engine
