"""Whether a run came out again as it was: item by item, as plain data and pure functions."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mlp.core.runs.pipeline import flatten


class Match(StrEnum):
    """What a comparison of one item came to."""

    SAME = "same"
    WITHIN = "within tolerance"
    DIFFERS = "differs"
    UNCHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class Item:
    """One line of the table. `counts` tells whether a difference makes the verdict negative."""

    kind: str
    name: str
    match: Match
    detail: str = ""
    counts: bool = True


@dataclass(frozen=True, slots=True)
class Reproduction:
    """The run that was made again, the one made now, and how they compare."""

    run_id: str
    again_id: str
    items: Sequence[Item]
    directory: str | None = None

    @property
    def reproduced(self) -> bool:
        """Whether everything that counts matches."""
        return not any(item.match == Match.DIFFERS and item.counts for item in self.items)


def compare_stages(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]], *, bits_count: bool
) -> list[Item]:
    """Sources, params and outputs of the stages of two runs (each a StageState as a mapping).

    `bits_count` is False where metrics within a tolerance are enough.
    """
    items: list[Item] = []
    again = {stage["name"]: stage for stage in after}
    made = {out["path"] for stage in before for out in stage["outs"]}
    seen: set[str] = set()
    for stage in before:
        other = again.get(stage["name"])
        if other is None:
            items.append(Item("stage", stage["name"], Match.DIFFERS, "did not run again"))
            continue
        for dep in stage["deps"]:
            if dep["path"] not in made and dep["path"] not in seen:
                seen.add(dep["path"])
                items.append(_data("input", dep, _digests(other["deps"]), counts=True))
        items += _params(stage, other)
        items += [
            _data("output", out, _digests(other["outs"]), counts=bits_count)
            for out in stage["outs"]
        ]
    return items


def compare_metrics(
    before: Mapping[str, float], after: Mapping[str, float], tolerance: float, *, counts: bool
) -> list[Item]:
    """Each metric with its difference; `tolerance` is relative to the larger of the two."""
    kind = "metric" if counts else "logged"
    items = []
    for name in sorted(before):
        old, new = before[name], after.get(name)
        if new is None:
            items.append(Item(kind, name, Match.DIFFERS, f"{old:.6g} -> missing", counts))
        elif old == new or (math.isnan(old) and math.isnan(new)):
            items.append(Item(kind, name, Match.SAME, f"{old:.6g}", counts))
        else:
            near = math.isclose(old, new, rel_tol=tolerance, abs_tol=0.0)
            detail = f"{old:.6g} -> {new:.6g} ({new - old:+.2g})"
            items.append(Item(kind, name, Match.WITHIN if near else Match.DIFFERS, detail, counts))
    return items


def compare_environment(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Item]:
    """Python, packages and machine. They do not count: what they make is compared bit for bit."""
    old, new = before["environment"]["packages"], after["environment"]["packages"]
    changed = [
        f"{name} {old.get(name, 'absent')} -> {new.get(name, 'absent')}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]
    items = [
        _value(
            "environment", "python", before["environment"]["python"], after["environment"]["python"]
        ),
        Item(
            "environment",
            f"{len(old)} packages",
            Match.DIFFERS if changed else Match.SAME,
            _shortened(changed),
            counts=False,
        ),
    ]
    for name in ("cpu", "cores", "system", "gpus"):
        items.append(_value("machine", name, before["machine"][name], after["machine"][name]))
    return items


def _value(kind: str, name: str, old: Any, new: Any) -> Item:
    same = old == new
    detail = f"{old}" if same else f"{old} -> {new}"
    return Item(kind, name, Match.SAME if same else Match.DIFFERS, detail, counts=False)


def _data(kind: str, item: Mapping[str, Any], after: Mapping[str, str], *, counts: bool) -> Item:
    old, new = item["digest"], after.get(item["path"])
    if old is None or new is None:
        return Item(kind, item["path"], Match.UNCHECKED, "DVC keeps no hash of it", counts)
    if old == new:
        return Item(kind, item["path"], Match.SAME, f"bit for bit, {old[:12]}", counts)
    return Item(kind, item["path"], Match.DIFFERS, f"{old[:12]} -> {new[:12]}", counts)


def _digests(items: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    return {item["path"]: item["digest"] for item in items}


def _params(stage: Mapping[str, Any], other: Mapping[str, Any]) -> list[Item]:
    old, new = flatten(stage["params"]), flatten(other["params"])
    if not old:
        return []
    changed = [
        f"{k} {old[k]} -> {new.get(k)}" for k in sorted(old) if str(old[k]) != str(new.get(k))
    ]
    match = Match.DIFFERS if changed else Match.SAME
    return [Item("params", stage["name"], match, _shortened(changed) or f"{len(old)} params")]


def _shortened(texts: Sequence[str], most: int = 5) -> str:
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more
