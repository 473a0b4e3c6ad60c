"""How the log of predictions looks."""

import dataclasses
from typing import TYPE_CHECKING, Any

from mlp.cli import render
from mlp.flows.serving.logged_predictions import Labelling, Overview, Table

if TYPE_CHECKING:
    from mlp.adapters.predictions.pack import Packed

_WIDEST = 40


_PLAN = ["explain_key", "explain_value"]  # what DuckDB answers to EXPLAIN: drawings


def overview(found: Overview, version: str | None, route: str | None, *, as_json: bool) -> None:
    """The newest predictions, of that version and route where one was given; what is missing."""
    lines = [_text(found.table)] if found.table.rows else [_none(found, version, route)]
    if found.table.more:
        lines.append(f"… {found.total} in all")
    if found.lost:
        lines.append(f"! {found.lost} were lost for want of room: see the table gaps")
    if found.damaged:
        lines.append(f"! the journal was damaged in {found.damaged} places: see the table gaps")
    document = {
        "predictions": _records(found.table),
        "total": found.total,
        "lost": found.lost,
        "damaged": found.damaged,
    }
    render.document(document, "\n".join(lines), as_json=as_json)


def request(found: Table, *, as_json: bool) -> None:
    """One request, a block for each row."""
    width = max(len(name) for name in found.columns)
    blocks = [
        "\n".join(f"{name:{width}}  {value}" for name, value in row.items() if value is not None)
        for row in _records(found)
    ]
    render.document({"rows": _records(found)}, "\n\n".join(blocks), as_json=as_json)


def table(found: Table, *, as_json: bool) -> None:
    """An answer of the database."""
    plan = list(found.columns) == _PLAN
    text = "\n".join(str(row[1]).rstrip() for row in found.rows) if plan else _text(found)
    if found.more:
        text += f"\n… and more than {len(found.rows)} rows: -n shows more"
    render.document({"rows": _records(found), "more": found.more}, text, as_json=as_json)


def labelling(done: Labelling, *, as_json: bool) -> None:
    """What became of a file with labels."""
    text = "1 label taken" if done.labels == 1 else f"{done.labels} labels taken"
    if done.unknown:
        text += f"\n! {done.unknown} of rows that the log does not have (they join when it does)"
    if done.empty:
        rows = "1 row of the file has" if done.empty == 1 else f"{done.empty} rows of the file have"
        text += f"\n! {rows} no label"
    if done.strange:
        labels = "1 label is" if done.strange == 1 else f"{done.strange} labels are"
        text += (
            f"\n! {labels} of a class that no version has predicted, such as {done.example!r}:"
            " they will count as wrong"
        )
    render.document(dataclasses.asdict(done), text, as_json=as_json)


def packed(done: "Packed", *, as_json: bool) -> None:
    """What became of the journals."""
    journals = "1 journal" if done.segments == 1 else f"{done.segments} journals"
    text = f"{journals} packed: {done.rows} predictions, {done.labels} labels"
    if done.lost:
        text += f"\n! {done.lost} predictions were lost for want of room"
    if done.damaged:
        text += f"\n! the journal was damaged in {done.damaged} places"
    if done.waiting:
        size = render.size(done.waiting_bytes)
        text += f"\n! {done.waiting} journals ({size}) wait: {done.trouble}"
    render.document(dataclasses.asdict(done), text, as_json=as_json)


def _none(found: Overview, version: str | None, route: str | None) -> str:
    if not found.all:
        return "no predictions yet: mlp serve"
    wanted = [f"version {version}"] if version is not None else []
    wanted += [f"the route {route}"] if route is not None else []
    return f"no prediction is of {' and '.join(wanted)} (in the log: {found.all})"


def _records(found: Table) -> list[dict[str, Any]]:
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def _text(found: Table) -> str:
    return render.table(found.columns, [[_cell(v) for v in row] for row in found.rows])


def _cell(value: Any) -> Any:
    if isinstance(value, int | float) or value is None:
        return value
    text = str(value)
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"
