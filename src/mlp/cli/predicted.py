"""How the log of predictions looks."""

import dataclasses
from typing import TYPE_CHECKING, Any

from mlp.cli import render
from mlp.flows.predictions import Labelling, Overview, Table

if TYPE_CHECKING:
    from mlp.adapters.predictions.pack import Packed

_WIDEST = 40


def overview(found: Overview, *, as_json: bool) -> None:
    """The newest predictions, and what is missing."""
    lines = [_text(found.table)] if found.table.rows else ["no predictions yet: mlp serve"]
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
    text = _text(found)
    if found.more:
        text += f"\n… and more than {len(found.rows)} rows: -n shows more"
    render.document({"rows": _records(found), "more": found.more}, text, as_json=as_json)


def labelling(done: Labelling, *, as_json: bool) -> None:
    """What became of a file with labels."""
    text = f"{done.labels} labels taken"
    if done.unknown:
        text += f"\n! {done.unknown} of rows that the log does not have (they join when it does)"
    if done.empty:
        text += f"\n! {done.empty} rows of the file have no label"
    render.document(dataclasses.asdict(done), text, as_json=as_json)


def packed(done: "Packed", *, as_json: bool) -> None:
    """What became of the journals."""
    text = f"{done.segments} journals packed: {done.rows} predictions, {done.labels} labels"
    if done.lost:
        text += f"\n! {done.lost} predictions were lost for want of room"
    if done.damaged:
        text += f"\n! the journal was damaged in {done.damaged} places"
    if done.waiting:
        size = render.size(done.waiting_bytes)
        text += f"\n! {done.waiting} journals ({size}) wait: {done.trouble}"
    render.document(dataclasses.asdict(done), text, as_json=as_json)


def _records(found: Table) -> list[dict[str, Any]]:
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def _text(found: Table) -> str:
    return render.table(found.columns, [[_cell(v) for v in row] for row in found.rows])


def _cell(value: Any) -> Any:
    if isinstance(value, int | float) or value is None:
        return value
    text = str(value)
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"
