"""`mlp init`: a project from a template, an update of one, or mlp.yaml for a repository."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from mlp.cli import options, render

_DEFAULT_TEMPLATE = "tabular"


@click.command("init")
@click.argument("path", metavar="[NAME]", required=False)
@click.option("--template", metavar="tabular|lightning", help="What to start from  [tabular]")
@click.option("--existing", is_flag=True, help="Add mlp.yaml to a repository with a dvc.yaml.")
@click.option("--update", is_flag=True, help="Take over what is new in the project's template.")
@options.dry_run
@options.json_output
@click.option("--traceback", is_flag=True, expose_value=False, help="Show where an error is from.")
def command(
    path: str | None,
    template: str | None,
    existing: bool,
    update: bool,
    dry_run: bool,
    json_output: bool,
) -> None:
    """Make a project in the new directory NAME, ready for `mlp run`.

    It is a git repository with DVC initialised. With --existing or --update, NAME is the directory
    to work on, the current one if left out.
    """
    if existing and update:
        raise click.UsageError("--existing and --update exclude each other")
    if (existing or update) and template is not None:
        raise click.UsageError("--template is for a new project")
    if existing:
        return _existing(Path(path or "."), dry_run, json_output)
    if update:
        return _update(Path(path or "."), dry_run, json_output)
    if not path:
        raise click.UsageError("which NAME? `mlp init NAME` makes a project in that directory")
    return _new(path, template or _DEFAULT_TEMPLATE, dry_run, json_output)


def _new(path: str, template: str, dry_run: bool, as_json: bool) -> None:
    from mlp.flows.scaffold import scaffolding

    plan = scaffolding.plan(Path(path), template)
    commit = None if dry_run else scaffolding.make(plan)
    done = "would make" if dry_run else "made"
    what = f"{done} the project {plan.project!r} from the template {template}"
    into = ["cd " + ("-- " if path.startswith("-") else "") + shlex.quote(path)]
    steps = [*([] if path == "." else into), "mlp run", "mlp ui", "mlp targets add gpu"]
    shown = {"root": plan.root, "project": plan.project, "template": template, "commit": commit}
    _show(what, shown, plan.names, plan.notes, [] if dry_run else steps, as_json=as_json)


def _existing(path: Path, dry_run: bool, as_json: bool) -> None:
    from mlp.flows.scaffold import scaffolding

    plan = scaffolding.plan_adoption(path)
    if not dry_run:
        scaffolding.adopt(plan)
    what = f"{'would add' if dry_run else 'added'} mlp.yaml for the project {plan.project!r}"
    steps = [] if dry_run else ["mlp status", "mlp run", "git add mlp.yaml"]
    shown = {"root": plan.root, "project": plan.project}
    _show(what, shown, plan.names, plan.notes, steps, as_json=as_json)


def _update(path: Path, dry_run: bool, as_json: bool) -> None:
    from mlp.flows.scaffold import template_update

    plan = template_update.plan(path)
    shown = {"root": plan.root, "project": plan.project, "template": plan.template}
    if not plan.changed:
        what = f"already up to date with the template {plan.template}"
        return _show(what, shown | {"commit": None}, (), (), [], as_json=as_json)
    commit = None if dry_run else template_update.apply(plan)
    done = "would merge" if dry_run else "merged"
    what = f"{done} what changed in the template {plan.template} since mlp {plan.since}"
    steps = [] if dry_run else ["pip install -r requirements.txt", "pytest", "mlp run"]
    return _show(what, shown | {"commit": commit}, plan.changed, (), steps, as_json=as_json)


def _show(
    what: str,
    shown: dict[str, Any],
    files: Sequence[str],
    notes: Sequence[str],
    steps: Sequence[str],
    *,
    as_json: bool,
) -> None:
    data = {**shown, "files": files, "notes": notes, "next": steps}
    lines = [what, *(f"  {name}" for name in files)]
    lines += [f"note: {note}" for note in notes]
    lines += render.steps(steps)
    render.document(data, "\n".join(lines), as_json=as_json)
