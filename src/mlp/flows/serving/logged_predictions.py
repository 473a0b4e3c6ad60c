"""The log of predictions: what is in it, labels for it, and bringing journals to it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp.core.errors import ConfigurationError, UsageError
from mlp.core.nearest import did_you_mean
from mlp.flows.project import Project

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from mlp.adapters.predictions.pack import Packed

ROUTES = ("champion", "challenger", "shadow")
_COLUMNS = (
    "time",
    "request_id",
    "row",
    "version",
    "route",
    "user_key",
    "prediction",
    "label",
    "latency_ms",
    "status",
    "reason",
)


@dataclass(frozen=True, slots=True)
class Table:
    """Columns and rows; `more`: there were more rows than asked for."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    more: bool = False


@dataclass(frozen=True, slots=True)
class Overview:
    """The newest predictions, and how many the journals had no room for.

    `total` counts those that were asked for, `all` everything, of which there may be more.
    """

    table: Table
    all: int
    total: int
    lost: int
    damaged: int


@dataclass(frozen=True, slots=True)
class Labelling:
    """What became of a file with labels; those of `unknown` rows wait for their predictions.

    `strange` of them are of a class that no version has predicted, such as `example`.
    """

    labels: int
    unknown: int
    empty: int
    strange: int = 0
    example: str = ""


def journal(project: Project) -> Path:
    """Where predictions of this project are written until they are packed."""
    return project.layout.state / "predictions"


def destination(project: Project) -> str:
    """The log's folder or address. Raises ConfigurationError where none is kept."""
    log = project.config.serve.log
    if log is None:
        raise ConfigurationError(
            "this project keeps no log of predictions",
            fix="set serve.log in mlp.yaml to a folder or an address such as s3://BUCKET/PATH",
        )
    return log if "://" in log else str(project.root / log)


@contextmanager
def opened(project: Project, *files: Path, since: float = 0.0) -> Iterator["DuckDBPyConnection"]:
    """The log, with what is not packed yet, and `files`; see `adapters.predictions.reading`."""
    from mlp.adapters.predictions import log_reading

    place, journals = destination(project), [journal(project)]
    kept = project.layout.state / "log"
    with log_reading.connect(place, journals, files=files, kept=kept, since=since) as log:
        yield log


def newest(project: Project, limit: int, version: str | None, route: str | None) -> Overview:
    """The newest predictions first, of a version or route if one is given.

    Raises UsageError for a route that there is not.
    """
    if route is not None and route not in ROUTES:
        raise UsageError(
            f"there is no route {route!r} (have: {', '.join(ROUTES)}){did_you_mean(route, ROUTES)}"
        )
    wanted = {"version": version, "route": route}
    given = {name: value for name, value in wanted.items() if value is not None}
    where = " AND ".join(["true", *(f"{name} = ?" for name in given)])
    shown = ", ".join(_COLUMNS)
    with opened(project) as log:
        table = _table(
            log,
            f"SELECT {shown} FROM predictions LEFT JOIN latest USING (request_id, row)"
            f" WHERE {where} ORDER BY time DESC, request_id, row LIMIT {limit + 1}",
            list(given.values()),
            limit,
        )
        total = _one(log, f"SELECT count(*) FROM predictions WHERE {where}", list(given.values()))
        lost = _one(log, "SELECT coalesce(sum(lost), 0)::BIGINT FROM gaps")
        damaged = _one(log, "SELECT count(*) FROM gaps WHERE lost = 0")
        everything = _one(log, "SELECT count(*) FROM predictions") if given else total
    return Overview(table, everything, total, lost, damaged)


def request(project: Project, request_id: str) -> Table:
    """All that is known of a request, row by row. Raises UsageError where there is none."""
    with opened(project) as log:
        found = _table(
            log,
            "SELECT * FROM predictions LEFT JOIN latest USING (request_id, row)"
            " WHERE request_id = ? ORDER BY route, row",
            [request_id],
        )
    if not found.rows:
        raise UsageError(
            f"the log has no request {request_id}", fix="mlp predictions show lists the newest"
        )
    return found


def query(project: Project, sql: str, limit: int) -> Table:
    """The answer to one question in SQL. Raises UsageError for what is none, or would write."""
    from mlp.adapters.predictions import questions

    with opened(project) as log:
        questions.only_reads(log, sql)
        return _table(log, sql, [], limit)


def label(project: Project, path: Path) -> Labelling:
    """Take the labels of a file into the log. Raises UsageError, or OSError without room."""
    from mlp.adapters.predictions import label_files
    from mlp.adapters.predictions.prediction_journal import PredictionJournal

    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    with opened(project, path) as log:
        label_files.attach(log, path)
        unknown, empty = label_files.counts(log)
        predicted = _predicted(project, log)
        strange = _strange(predicted, log, path)
        names = {text for text, is_text in predicted.items() if is_text}
        told = 0
        writing = PredictionJournal(journal(project), project.model.name)
        try:
            for batch in label_files.batches(log, path, names):
                if not writing.label(batch):
                    raise writing.trouble or OSError("no room for labels")
                told += len(batch)
        finally:
            writing.close()
    return Labelling(told, unknown, empty, sum(strange.values()), next(iter(strange), ""))


def _predicted(project: Project, log: "DuckDBPyConnection") -> Mapping[str, bool]:
    """What all versions have predicted, where that are classes; see `label_files.predicted`."""
    from mlp.adapters.predictions import label_files

    model = project.model
    if model.task != "classification":
        return {}
    return label_files.predicted(log, model.name, model.prediction)


def _strange(predicted: Iterable[str], log: "DuckDBPyConnection", path: Path) -> Mapping[str, int]:
    """How often labels come that are of a class that no version has predicted, by label."""
    from mlp.adapters.predictions import label_files
    from mlp.core.ab.statistics import outcomes

    known = outcomes.classes(predicted)
    labels = label_files.distinct(log, path) if known else {}
    return {text: count for text, count in labels.items() if outcomes.outcome(text) not in known}


def pack(project: Project) -> "Packed":
    """Bring to the log what no living server writes to any more."""
    from mlp.adapters.predictions import pack as packing

    return packing.pack(journal(project), destination(project))


def _table(
    log: "DuckDBPyConnection", sql: str, values: Sequence[Any], limit: int | None = None
) -> Table:
    from mlp.adapters.predictions import log_reading

    with log_reading.translated():
        log.execute(sql, values)
        columns = [column[0] for column in log.description or ()]
        rows = log.fetchall() if limit is None else log.fetchmany(limit + 1)
    return Table(columns, rows[:limit], limit is not None and len(rows) > limit)


def _one(log: "DuckDBPyConnection", sql: str, values: Sequence[Any] = ()) -> int:
    return int(_table(log, sql, values).rows[0][0])
