"""The schema on the real database: migrated and declared are the same, and an upgrade can be interrupted."""

import re
from collections.abc import Iterator
from itertools import count
from threading import Thread

import pytest
from sqlalchemy import Engine, text

from allocator import schema, tables
from allocator.database import Database, open_engine
from allocator.store import epochs
from compose.services.local import LocalServices
from schemas.errors import ServiceError

pytestmark = pytest.mark.services

_numbers = count()


@pytest.fixture
def empty(services: LocalServices) -> Iterator[Engine]:
    """A database without a table."""
    engine = open_engine(services.create_database(f"schema_{next(_numbers)}"))
    yield engine
    engine.dispose()


def described(engine: Engine) -> dict[str, list[str]]:
    """What the server says of each table; the order of keys and constraints does not count."""
    found = {}
    with engine.connect() as connection:
        for name in tables.metadata.tables:
            created = connection.execute(text(f"SHOW CREATE TABLE {name}")).one()[1]
            lines = re.sub(r" AUTO_INCREMENT=\d+", "", created).splitlines()
            columns = [line.rstrip(",") for line in lines if line.startswith("  `")]
            found[name] = columns + sorted(line.rstrip(",") for line in lines if not line.startswith("  `"))
    return found


def test_a_migrated_database_is_what_the_tables_declare(empty: Engine, services: LocalServices):
    schema.upgrade(empty)
    declared = open_engine(services.create_database(f"schema_{next(_numbers)}"))
    tables.metadata.create_all(declared)
    assert described(empty) == described(declared)
    declared.dispose()


def test_an_upgrade_is_safe_to_repeat_and_keeps_the_epoch(empty: Engine):
    assert schema.upgrade(empty) == schema.head()
    with empty.begin() as connection:
        connection.execute(tables.epochs.update().values(epoch=7))
    assert schema.upgrade(empty) == schema.head()
    assert Database(empty).run(epochs.current) == 7


def test_an_upgrade_killed_before_it_noted_a_revision_goes_on_from_there(empty: Engine):
    schema.upgrade(empty)
    whole = described(empty)
    for revision in range(1, int(schema.head())):
        with empty.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = :n"), {"n": f"{revision:04}"})
        assert schema.upgrade(empty) == schema.head()
    assert described(empty) == whole


def test_two_upgrades_at_once_wait_for_one_another(empty: Engine):
    results: list[str] = []
    threads = [Thread(target=lambda: results.append(schema.upgrade(empty))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == [schema.head()] * 3


def test_a_database_of_another_revision_is_named_with_what_to_run(empty: Engine):
    with pytest.raises(ServiceError, match="moorage db upgrade") as caught:
        schema.check(empty)
    assert caught.value.code == "not_provisioned"
    schema.upgrade(empty)
    schema.check(empty)
