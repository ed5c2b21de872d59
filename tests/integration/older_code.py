"""Code of an older schema, as far as the database can tell: it knows the columns of then, and no others."""

from sqlalchemy import Connection, Engine, MetaData, Table, delete, insert, select, text, update

from allocator.database import Database


class OlderCode:
    """Reads, changes and writes all rows through the columns that there are when it is made."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        known = MetaData()
        known.reflect(engine)
        self.tables = [table for table in known.sorted_tables if table.name != "alembic_version"]

    def fill_from(self, source: Engine) -> None:
        """Put in what another database, of a newer schema, has in the columns that this code knows."""
        newer = MetaData()
        newer.reflect(source)
        with self._engine.begin() as connection:
            _without_keys(connection)
            for table in self.tables:
                both = ", ".join(f"`{c.name}`" for c in table.c if c.name in newer.tables[table.name].c)
                there = f"{source.url.database}.{table.name}"
                copy = f"REPLACE INTO {table.name} ({both}) SELECT {both} FROM {there}"  # noqa: S608
                connection.execute(text(copy))

    def rows(self) -> dict[str, int]:
        """How many rows each table has, all columns of them read."""
        with self._engine.connect() as connection:
            return {table.name: len(connection.execute(select(table)).all()) for table in self.tables}

    def update_all(self) -> None:
        """Set every column of every row to what it is."""

        def work(connection: Connection) -> None:
            for table in self.tables:
                for row in connection.execute(select(table)).mappings().all():
                    same = [column == row[column.name] for column in table.primary_key]
                    connection.execute(update(table).where(*same).values(**row))

        Database(self._engine).run(work)

    def write_all_again(self) -> None:
        """Delete every row and insert it anew."""

        def work(connection: Connection) -> None:
            _without_keys(connection)
            for table in self.tables:
                _again(connection, table)

        Database(self._engine).run(work)


def _again(connection: Connection, table: Table) -> None:
    rows = [dict(row) for row in connection.execute(select(table)).mappings()]
    connection.execute(delete(table))
    if rows:
        connection.execute(insert(table), rows)


def _without_keys(connection: Connection) -> None:
    """References are checked by neither order nor rows that are gone for a moment. For this connection."""
    connection.execute(text("SET FOREIGN_KEY_CHECKS = 0"))
