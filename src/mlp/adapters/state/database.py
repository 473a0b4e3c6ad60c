"""The ledgers of models in a database: read, appended to, and locked."""

import dataclasses
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, func, insert, literal, select
from sqlalchemy.exc import IntegrityError

from mlp.adapters.state import database_errors, locks, schema
from mlp.adapters.state.engines import engine, is_sqlite, writing
from mlp.core.errors import GateRefused
from mlp.core.models.ledger import Action, LedgerEntry

_ledger = schema.ledger
_READ = [_ledger.c[field.name] for field in dataclasses.fields(LedgerEntry)]


class Conflict(GateRefused):
    """The ledger has gone on since it was looked at."""


class StateDatabase:
    """The state database. Threads may share one; after a fork a process opens its own."""

    def __init__(self, uri: str, engine: Engine) -> None:
        self._uri = uri
        self._engine = engine
        self._ready = False
        self._making = threading.Lock()

    def models(self) -> list[str]:
        """The names of the models that have a ledger."""
        with self._connected() as connection:
            found = connection.execute(select(_ledger.c.model).distinct())
            return sorted(found.scalars())

    def last(self, model: str) -> int:
        """The number of the ledger's last entry, 0 for an empty one."""
        with self._connected() as connection:
            return int(connection.execute(_last(model)).scalar() or 0)

    def entries(self, model: str, after: int = 0) -> list[LedgerEntry]:
        """The model's entries with a number above `after`, the oldest first."""
        query = (
            select(*_READ)
            .where(_ledger.c.model == model, _ledger.c.number > after)
            .order_by(_ledger.c.number)
        )
        with self._connected() as connection:
            return [_entry(row) for row in connection.execute(query).mappings()]

    def append(self, entry: LedgerEntry, after: int) -> LedgerEntry:
        """Append `entry` where the ledger's last number is `after`; returns it as it is kept.

        Its `number` is given here, its `at` where it has none. It is on disk when this returns.
        Raises Conflict where the ledger has gone on.
        """
        kept = dataclasses.replace(entry, number=after + 1, at=entry.at or time.time())
        values = {**_values(kept), "evidence": _finite(kept.evidence)}
        columns = [_ledger.c[name] for name in values]
        row = select(*(literal(value, _ledger.c[name].type) for name, value in values.items()))
        expected = func.coalesce(_last(kept.model).scalar_subquery(), 0) == after
        with self._writing() as connection:
            try:
                done = connection.execute(insert(_ledger).from_select(columns, row.where(expected)))
            except IntegrityError as e:
                raise self._conflict(kept, after) from e
            if done.rowcount != 1:
                raise self._conflict(kept, after)
        return kept

    def append_next(self, entry: LedgerEntry) -> LedgerEntry:
        """Append an entry that does not depend on what came before it."""
        appended = self.append_once(entry, lambda _: False)
        assert appended is not None
        return appended

    def append_once(
        self, entry: LedgerEntry, unless: Callable[[list[LedgerEntry]], bool]
    ) -> LedgerEntry | None:
        """Append `entry`, unless the entries before it already say so; None where they do.

        Of many processes that call this with the same `entry`, one appends.
        """
        while True:
            before = self.entries(entry.model)
            if unless(before):
                return None
            try:
                return self.append(entry, before[-1].number if before else 0)
            except Conflict:
                continue  # another entry came first, and may say it: look again

    def locked(self, model: str, seconds: float = 60.0) -> AbstractContextManager[None]:
        """Let nobody else hold this lock of the model during the block.

        Waits up to `seconds` for it; then raises Conflict. Any death of its holder frees it.
        """
        busy = Conflict(
            f"another change of model {model!r} has been going on for {seconds:g} s",
            fix="wait for it to end, and call this again",
        )
        if is_sqlite(self._uri):
            return locks.of_file(self._uri, model, seconds, busy)
        return locks.advisory(self._engine, self._uri, model, seconds, busy)

    def close(self) -> None:
        """Let the connections go."""
        self._engine.dispose()

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        with database_errors.translated(self._uri):
            self._prepare()
            with self._engine.connect() as connection:
                yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with database_errors.translated(self._uri):
            self._prepare()
            with writing(self._engine).begin() as connection:
                yield connection

    def _prepare(self) -> None:
        """Make the tables at the first use."""
        with self._making:
            if not self._ready:
                # Two that turn a new SQLite file to WAL at once would be in each other's way.
                with self.locked(""), writing(self._engine).begin() as connection:
                    schema.prepare(connection)
                self._ready = True

    def _conflict(self, entry: LedgerEntry, after: int) -> Conflict:
        return Conflict(
            f"the ledger of model {entry.model!r} has gone on since entry {after} was its last",
            fix="`mlp models history` shows by whom; then decide again",
        )


def open_state(uri: str) -> StateDatabase:
    """The state database at `uri`: sqlite:///PATH, or postgresql://…; nothing is asked of it yet.

    Its tables (and a SQLite file with its folder) are made when it is first used. Raises
    ConfigurationError for another address, and where the database's driver is not installed.
    What its methods raise: RemoteError where the server is away, ConfigurationError where it or
    the file cannot be used.
    """
    return StateDatabase(uri, engine(uri))


def _last(model: str) -> Any:
    return select(func.max(_ledger.c.number)).where(_ledger.c.model == model)


def _values(entry: LedgerEntry) -> dict[str, Any]:
    return {field.name: getattr(entry, field.name) for field in dataclasses.fields(entry)}


def _entry(row: Mapping[str, Any]) -> LedgerEntry:
    return LedgerEntry(**{**row, "action": Action(row["action"])})


def _finite(value: Any) -> Any:
    """`value` as JSON can hold it: a metric that is not a number as its name."""
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(inner) for inner in value]
    return value
