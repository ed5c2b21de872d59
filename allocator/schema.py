"""The schema's version: `upgrade` brings a database up to this code, `check` says whether it is."""

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from allocator.database import open_engine
from schemas.errors import Code, ServiceError

_LOCK = "moorage.schema"
_LOCK_S = 60
_STATEMENT_S = 600


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", "allocator:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def upgrade(engine: Engine) -> str:
    """Apply all missing revisions and return the one the database is at now.

    Safe to call again, also after a kill: every statement of a revision can be repeated. A database that a
    newer version upgraded stays as it is. Two callers wait for one another through a named lock of the
    server. Raises `unavailable` when the other takes over a minute. A statement may take ten, on a
    connection of its own: `engine` waits less, and a large table is slow to change.
    """
    return upgrade_to(engine, "head")


def upgrade_to(engine: Engine, revision: str) -> str:
    """As `upgrade`, up to one revision: for tests of what is between two of them."""
    patient = open_engine(engine.url, statement_s=_STATEMENT_S)
    try:
        return _upgrade(patient, revision)
    finally:
        patient.dispose()


def _upgrade(engine: Engine, revision: str) -> str:
    with engine.connect() as connection:
        got = connection.execute(text("SELECT GET_LOCK(:name, :wait)"), {"name": _LOCK, "wait": _LOCK_S})
        if got.scalar() != 1:
            raise ServiceError(
                Code.UNAVAILABLE, f"another schema upgrade holds the lock {_LOCK}; try again when it is done"
            )
        connection.commit()
        try:
            if not is_newer(current(connection)):
                command.upgrade(_config(connection), revision)
            connection.commit()
        finally:
            connection.execute(text("SELECT RELEASE_LOCK(:name)"), {"name": _LOCK})
        return current(connection) or ""


def current(connection: Connection) -> str | None:
    """The revision that the database is at; None for an empty one."""
    return MigrationContext.configure(connection).get_current_revision()


def head() -> str:
    """The newest revision that this code knows."""
    found = ScriptDirectory.from_config(_config()).get_current_head()
    assert found is not None  # noqa: S101  there are revisions
    return found


def is_newer(revision: str | None) -> bool:
    """Whether a newer version of this code made that revision: it is none of those known here."""
    return revision is not None and revision not in _known()


def check(engine: Engine) -> str | None:
    """None where the database is at this code's revision, or the newer one that it is at.

    Revisions only add for as long as older code may run (docs/decisions/0019), so it works with a newer one.
    Raises `not_provisioned` where the database is older.
    """
    with engine.connect() as connection:
        found = current(connection)
    if is_newer(found):
        return found
    if found != head():
        raise ServiceError(
            Code.NOT_PROVISIONED,
            f"the database is at revision {found or 'none'}, this code needs {head()}: run "
            "`moorage db upgrade`",
            found=found,
            needed=head(),
        )
    return None


def _known() -> frozenset[str]:
    return frozenset(script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions())
