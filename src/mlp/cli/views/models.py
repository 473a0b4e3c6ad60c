"""How versions of models and their ledger look."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlp.cli import render
from mlp.core.models.gates import PROVENANCE
from mlp.core.models.ledger import Action, LedgerEntry
from mlp.core.models.model_version import VersionTag
from mlp.core.runs.recorded_run import FINISHED, RUNNING

if TYPE_CHECKING:
    from mlp.core.models.gates import Gate
    from mlp.flows.models import archiving, listing, packaging, promoting, rolling_back
    from mlp.flows.models.registering import RegistrationPlan as Registering

_EMPTY = "no version yet: mlp models register RUN"


def registering(planned: "Registering", *, as_json: bool) -> None:
    """What would be registered."""
    document = {**dataclasses.asdict(planned), "registered": planned.version is not None}
    known = f" (it is version {planned.version} already)" if planned.version else ""
    lines = [
        f"model    {planned.model}{known}",
        f"run      {planned.run_id}",
        f"artifact {planned.artifact.name} ({planned.artifact.model_id})",
        f"digest   {planned.digest}",
        "",
        render.table(("file", "sha256"), [(p, d[:16]) for p, d in planned.files.items()]),
    ]
    render.document(document, "\n".join(lines), as_json=as_json)


def registered(planned: "Registering", entry: LedgerEntry, *, as_json: bool) -> None:
    """What was registered, or had been."""
    status = planned.evidence["status"]
    if entry.evidence.get("status", FINISHED) != FINISHED:
        ended = "has not ended" if status == RUNNING else f"ended as {status}"
        render.note(
            f"run {planned.run_id[:8]} {ended}: the gate `{PROVENANCE}` will refuse this version"
        )
    again = planned.version is not None
    said = "is registered already as" if again else "is registered as"
    maker = _maker(planned.evidence)
    made = f", made by run {maker[:8]}," if maker else ""
    more = f"; this run adds {', '.join(planned.adds)}" if planned.adds else ""
    text = (
        f"{planned.artifact.name} of run {planned.run_id[:8]}{made} {said}"
        f" version {entry.version} of {planned.model}{more}{_next(planned, entry)}"
    )
    document = {
        "model": planned.model,
        "version": entry.version,
        "run_id": planned.run_id,
        "digest": planned.digest,
        "already": again,
        "adds": list(planned.adds),
        "entry": _entry(entry),
    }
    render.document(document, text, as_json=as_json)


def _maker(record: Mapping[str, Any]) -> str:
    """The run that made the model, "" where that is the one that was registered."""
    made_by = record.get("made_by", "")
    return "" if made_by == record.get("run_id") else str(made_by)


def _next(planned: "Registering", entry: LedgerEntry) -> str:
    if planned.champion == entry.version:
        return ""  # there is nothing that it could become
    if entry.evidence.get("status", FINISHED) != FINISHED:
        return "\nnext: mlp run   then register that run"
    command = f"\nnext: mlp models promote {entry.version}"
    if planned.champion is None:
        return command
    return f"{command}, or with --to challenger, to compare it with version {planned.champion}"


def versions(listed: "listing.ModelListing", *, as_json: bool) -> None:
    """The list of versions."""
    _found(listed.found)
    rows = [
        (
            int(version.version),
            version.lifecycle,
            ", ".join(version.aliases),
            render.moment(version.created),
            version.tags.get(VersionTag.RUN_ID, version.run_id or "")[:8],
            version.tags.get(VersionTag.COMMIT, "")[:8],
        )
        for version in listed.versions
    ]
    headers = ("version", "lifecycle", "alias", "registered", "run", "commit")
    document = {
        "model": listed.model,
        "versions": [_version(version) for version in listed.versions],
        "found": [_entry(entry) for entry in listed.found],
    }
    render.document(document, render.table(headers, rows) if rows else _EMPTY, as_json=as_json)


def version(shown: "listing.Shown", *, as_json: bool) -> None:
    """One version."""
    _found(shown.found)
    found, record = shown.version, shown.record
    tags = found.tags
    run = record.get("run_id") or tags.get(VersionTag.RUN_ID) or found.run_id or "unknown"
    maker = _maker(record)
    alias = f" ({', '.join(found.aliases)})" if found.aliases else ""
    lines = [
        f"version    {found.version} of {found.model}{alias}",
        f"lifecycle  {found.lifecycle}",
        f"registered {render.moment(found.created)}",
        f"run        {run}",
        *([f"made by    {maker}"] if maker else []),
        f"commit     {tags.get(VersionTag.COMMIT, 'unknown')}"
        + (" with uncommitted changes" if tags.get(VersionTag.DIRTY) else ""),
        f"digest     {tags.get(VersionTag.DIGEST, 'none')}",
    ]
    lines += _section("data", record.get("data", {}))
    lines += _section("params", record.get("params", {}))
    lines += _section("metrics", record.get("metrics", {}))
    if shown.entries:
        lines += ["", _ledger(shown.entries)]
    document = {
        "version": _version(found),
        "record": record,
        "entries": [_entry(entry) for entry in shown.entries],
        "found": [_entry(entry) for entry in shown.found],
    }
    render.document(document, "\n".join(lines), as_json=as_json)


def promotion(
    planned: "promoting.PromotionPlan", entry: LedgerEntry | None, *, as_json: bool
) -> None:
    """A promotion, planned (without an entry) or done, with the verdict of every gate."""
    document = {
        **dataclasses.asdict(planned),
        "refused": [gate.name for gate in planned.refused],
        "promoted": entry is not None,
        "entry": _entry(entry) if entry else None,
    }
    instead = f" instead of version {planned.previous}" if planned.previous else ""
    who = f"version {planned.version}"
    if planned.done:
        text = f"{who} is the {planned.alias} already: nothing to do"
    elif entry is None:
        verdict = "would be refused as" if planned.refused else "would become"
        text = f"{_gates(planned.gates)}\n\n{who} {verdict} {planned.alias}{instead}"
    else:
        text = f"{_gates(planned.gates)}\n\n{who} is the {planned.alias} now{instead}"
    render.document(document, text, as_json=as_json)


def rollback(
    planned: "rolling_back.RollbackPlan", entry: LedgerEntry | None, *, as_json: bool
) -> None:
    """A rollback, planned (without an entry) or done."""
    for note in planned.notes:
        render.note(note)
    is_now = "would be" if entry is None else "is"
    lines = [f"version {v} was passed over: {why}" for v, why in planned.passed_over.items()]
    instead = f" instead of version {planned.previous}" if planned.previous else ""
    lines.append(f"version {planned.version} {is_now} the champion now{instead}")
    document = {
        **dataclasses.asdict(planned),
        "rolled_back": entry is not None,
        "entry": _entry(entry) if entry else None,
    }
    render.document(document, "\n".join(lines), as_json=as_json)


def archived(planned: "archiving.ArchivePlan", entry: LedgerEntry | None, *, as_json: bool) -> None:
    """An archived version, or one that would be."""
    if planned.done:
        text = f"version {planned.version} is archived already: nothing to do"
    else:
        is_now = "would be" if entry is None else "is"
        loses = f", and no longer the {planned.alias}" if planned.alias else ""
        text = f"version {planned.version} {is_now} archived{loses}"
    document = {
        **dataclasses.asdict(planned),
        "archived": entry is not None or planned.done,
        "entry": _entry(entry) if entry else None,
    }
    render.document(document, text, as_json=as_json)


def history(found: "listing.ModelHistory", *, as_json: bool) -> None:
    """The ledger."""
    _found(found.found)
    document = {
        "model": found.model,
        "entries": [_entry(entry) for entry in found.entries],
        "found": [_entry(entry) for entry in found.found],
    }
    text = _ledger(found.entries) if found.entries else _EMPTY
    render.document(document, text, as_json=as_json)


def package(planned: "packaging.PackagePlan", *, made: bool, as_json: bool) -> None:
    """A package, made or only planned."""
    from mlp.core.models.package import start

    if not planned.verified:
        render.note(f"nothing tells whether version {planned.version} is intact: it has no digest")
    document = {
        **dataclasses.asdict(planned),
        "folder": str(planned.folder),
        "made": made,
    }
    files = len(planned.files) + len(planned.texts)
    done = "is" if made else "would be"
    lines = [
        f"version {planned.version} of {planned.model} {done} packaged: {planned.folder}"
        f" ({files} files)",
        f"start it: {start(str(planned.folder))}",
    ]
    if planned.image:
        lines.append(f"image: {planned.image} ({done} built by {planned.builder})")
    if not made:
        lines += ["", "# Containerfile", planned.texts["Containerfile"].rstrip()]
    render.document(document, "\n".join(lines), as_json=as_json)


def _found(entries: Sequence[LedgerEntry]) -> None:
    """What had happened without the ledger, and is written there now."""
    for entry in entries:
        because = entry.evidence.get("note") or entry.reason
        to = f"version {entry.version}" if entry.version else "none"
        before = f"version {entry.previous}" if entry.previous else "none"
        render.note(
            f"noticed: {entry.action}: {entry.alias} {before} -> {to}: {because}"
            f" (entry {entry.number})"
        )


def _gates(gates: "Sequence[Gate]") -> str:
    rows = [
        (
            gate.name,
            "passed" if gate.passed else "accepted" if gate.accepted else "REFUSED",
            gate.detail,
        )
        for gate in gates
    ]
    lines = [render.table(("gate", "verdict", "detail"), rows)]
    lines += [f"fix {gate.name}: {gate.fix}" for gate in gates if not gate.opens and gate.fix]
    return "\n".join(lines)


def _ledger(entries: Sequence[LedgerEntry]) -> str:
    rows = [
        (
            entry.number,
            render.moment(entry.at),
            str(entry.action),
            entry.alias or "",
            _change(entry),
            entry.actor,
            _why(entry),
        )
        for entry in entries
    ]
    return render.table(("no", "when", "what", "alias", "version", "who", "why"), rows)


def _change(entry: LedgerEntry) -> str:
    if entry.alias is None:
        return entry.version or ""
    now = None if entry.action == Action.ARCHIVED else entry.version
    return f"{entry.previous or '-'} -> {now or '-'}"


def _why(entry: LedgerEntry) -> str:
    accepted = entry.evidence.get("accepted")
    parts = [
        _share(entry),
        entry.reason,
        str(entry.evidence.get("note", "")),
        f"accepted: {', '.join(accepted)}" if accepted else "",
    ]
    return "; ".join(part for part in parts if part)


def _share(entry: LedgerEntry) -> str:
    if entry.action != Action.SHARED:
        return ""
    share = f"{100 * entry.evidence['share']:.4g} % of the keys"
    return f"{share}, in shadow" if entry.evidence["shadow"] else share


def _entry(entry: LedgerEntry) -> dict[str, Any]:
    return {**dataclasses.asdict(entry), "action": str(entry.action)}


def _version(found: Any) -> dict[str, Any]:
    return {**dataclasses.asdict(found), "lifecycle": found.lifecycle}


def _section(title: str, values: Mapping[str, Any]) -> list[str]:
    return ["", render.table((title, ""), sorted(values.items()))] if values else []
