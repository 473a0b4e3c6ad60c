"""The tables of the state database, and how the database itself keeps the ledger append-only."""

from sqlalchemy import (
    JSON,
    CheckConstraint,
    Column,
    Connection,
    Double,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    insert,
    inspect,
    select,
    text,
)

from mlp.core.errors import ConfigurationError

VERSION = 1

_metadata = MetaData()

_version = Table("mlp_schema", _metadata, Column("version", Integer, nullable=False))

ledger = Table(
    "mlp_ledger",
    _metadata,
    Column("model", String(255), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", Double, nullable=False),
    Column("action", String(32), nullable=False),
    Column("version", String(64)),
    Column("alias", String(255)),
    Column("previous", String(64)),
    Column("actor", String(255), nullable=False),
    Column("reason", Text, nullable=False),
    Column("evidence", JSON, nullable=False),
    CheckConstraint("number > 0"),
)

_REFUSAL = "the ledger is append-only"
_TRIGGERS = {
    "sqlite": (
        *(
            f"CREATE TRIGGER mlp_ledger_no_{event.lower()} BEFORE {event} ON mlp_ledger"
            f" BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
            for event in ("UPDATE", "DELETE")
        ),
        # INSERT OR REPLACE deletes without asking a trigger on DELETE.
        "CREATE TRIGGER mlp_ledger_in_order BEFORE INSERT ON mlp_ledger WHEN NEW.number IS NOT"
        " (SELECT coalesce(max(number), 0) + 1 FROM mlp_ledger WHERE model = NEW.model)"
        f" BEGIN SELECT RAISE(ABORT, '{_REFUSAL}, and its numbers have no gaps'); END",
    ),
    "postgresql": (
        "CREATE FUNCTION mlp_ledger_refuse() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE EXCEPTION '{_REFUSAL}'; END $$",
        "CREATE TRIGGER mlp_ledger_no_change BEFORE UPDATE OR DELETE ON mlp_ledger"
        " FOR EACH ROW EXECUTE FUNCTION mlp_ledger_refuse()",
        "CREATE TRIGGER mlp_ledger_no_truncate BEFORE TRUNCATE ON mlp_ledger"
        " FOR EACH STATEMENT EXECUTE FUNCTION mlp_ledger_refuse()",
    ),
}
# Any number that nobody else locks: two processes that make the tables make them once.
_MAKING = 0x6D6C70


def prepare(connection: Connection) -> None:
    """Make what is missing; the caller begins and commits.

    Raises ConfigurationError where a later mlp made the tables.
    """
    dialect = connection.dialect.name
    if inspect(connection).has_table(_version.name):
        _check(connection)
        return
    if dialect == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MAKING})
        if inspect(connection).has_table(_version.name):  # by another process, while this waited
            return
    _metadata.create_all(connection)
    for statement in _TRIGGERS[dialect]:
        connection.exec_driver_sql(statement)
    connection.execute(insert(_version).values(version=VERSION))


def _check(connection: Connection) -> None:
    found = connection.execute(select(_version.c.version)).scalar()
    if found != VERSION:
        raise ConfigurationError(
            f"the state database has schema {found}, and this mlp knows schema {VERSION}",
            fix="use the mlp that made it, or a later one: pip install --upgrade mlp-loop",
        )
