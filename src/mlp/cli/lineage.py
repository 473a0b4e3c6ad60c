"""`mlp lineage`: what a file was made from, and by which run."""

import shlex
from typing import TYPE_CHECKING

import click

from mlp.cli import options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlp.flows.compare.file_lineage import File, FileLineage, FileOrigin, Producer
    from mlp.flows.project import Project

_STATES = {
    "modified": "changed here since",
    "deleted": "not here",
    "new": "not recorded yet",
}


@click.command()
@click.argument("path", type=click.Path())
@options.json_output
@options.project
def command(path: str, json_output: bool, project: "Project") -> None:
    """Show what the file or directory PATH was made from, back to its sources.

    PATH is an input or output of a stage, or lies in one.
    """
    import dataclasses
    from pathlib import Path

    from mlp.cli import render
    from mlp.flows.compare import file_lineage

    found = file_lineage.lineage(project, path, Path.cwd())
    render.document(dataclasses.asdict(found), _as_text(found), as_json=json_output)


def _as_text(found: "FileLineage") -> str:
    lines = [*_tree(found, found.path, "", "", set())]
    if found.downstream:
        lines.append(f"used by: {', '.join(found.downstream)}")
    if found.runs_unknown and found.steps:
        lines.append(f"which run made it is not known: {found.runs_unknown}")
    again = shlex.join(["mlp", "lineage", found.path])
    lines += [f"{store}: {store.command(again)}" for store in found.elsewhere]
    lines += ["", f"next: {_next(found)}"]
    return "\n".join(lines)


def _tree(
    found: "FileLineage", path: str, head: str, rest: str, shown: set[str]
) -> "Iterator[str]":
    """A file, the stages that made it, and below each what that was made from."""
    file = found.files[path]
    yield f"{head}{_file(file)}"
    for name in file.made_by:
        step = found.steps[name]
        if name in shown:
            yield f"{rest}  by stage {name}, see above"
            continue
        shown.add(name)
        yield f"{rest}  by stage {name}: {_one_line('; '.join(step.command))}"
        if step.run or not found.runs_unknown:
            yield f"{rest}     {_run(step.run)}"
        if step.params:
            params = " ".join(f"{key}={value}" for key, value in step.params.items())
            yield f"{rest}     params {_one_line(params)}"
        if step.outdated:
            yield f"{rest}     changed since it ran: {', '.join(step.outdated)}"
        for number, dep in enumerate(step.deps, 1):
            last = number == len(step.deps)
            branch, below = ("└─ ", "   ") if last else ("├─ ", "│  ")
            yield from _tree(found, dep, f"{rest}  {branch}", f"{rest}  {below}", shown)


def _file(file: "File") -> str:
    from mlp.cli import render

    words = [file.path, (file.digest or "")[:12], render.size(file.size)]
    if file.files is not None:
        words.append(f"{file.files} files")
    words.append(_STATES.get(file.state, ""))
    words.append(_origin(file.origin) if file.origin else "")
    return "  ".join(word for word in words if word)


def _origin(origin: "FileOrigin") -> str:
    if origin.kind == "untracked":
        return "(neither in git nor in DVC)"
    name = "git" if origin.kind == "git" else origin.file
    came = f" from {', '.join(origin.imported_from)}" if origin.imported_from else ""
    commit = f" {origin.commit[:8]}" if origin.commit else ""
    date = f" of {origin.date[:10]}" if origin.date else ""
    subject = f" {_one_line(origin.subject)!r}" if origin.subject else ""
    changed = ", uncommitted changes" if origin.changed else ""
    return f"({name}{came}{commit}{date}{subject}{changed})"


def _run(run: "Producer | None") -> str:
    from mlp.cli import render

    if run is None:
        return "no run of mlp is known to have done this"
    at = render.minute(run.started)
    commit = f", commit {run.commit[:8]}" if run.commit else ""
    dirty = " with uncommitted changes" if run.dirty else ""
    return f"run {run.run_id[:8]} of {at}{commit}{dirty}"


def _next(found: "FileLineage") -> str:
    if any(step.outdated for step in found.steps.values()):
        return "mlp run   (something has changed since)"
    made_by = found.files[found.path].made_by
    runs = [step.run for name in made_by if (step := found.steps[name]).run]
    if runs and runs[0]:
        return f"mlp runs show {runs[0].run_id[:8]}"
    return "mlp status"


def _one_line(text: str, width: int = 70) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"
