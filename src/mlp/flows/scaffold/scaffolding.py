"""Making a project: a new one from a template, or mlp.yaml for a repository that has a pipeline."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from mlp.adapters import data, git, templates
from mlp.core import assets
from mlp.core.errors import ConfigurationError, UsageError
from mlp.core.layout import Layout
from mlp.core.nearest import did_you_mean
from mlp.core.runs.tracking_uri import refuse_odd
from mlp.core.scaffold.naming import project_name, yaml_text

# In the message of each commit that holds a template as it was rendered, and nothing else.
TRAILER = "Mlp-Template"
_DVC_FILES = (".dvc/.gitignore", ".dvc/config")


@dataclass(frozen=True, slots=True)
class ScaffoldPlan:
    """Files to be made under `root`, by path."""

    root: Path
    project: str
    files: Mapping[str, bytes]
    template: str | None = None
    """None where a repository is adopted."""
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All files that will be there, those that DVC makes among them."""
        return tuple(sorted((*self.files, *(_DVC_FILES if self.template else ()))))


# --- a new project ------------------------------------------------------------------------------


def plan(path: Path, template: str, *, folder: Path | None = None) -> ScaffoldPlan:
    """A new project at `path`, from a template of `folder` (those that mlp ships).

    Raises UsageError for a template that there is not, ConfigurationError where `path` is taken or
    no project can be.
    """
    root = path.resolve()
    refuse_odd(root)
    project = project_name(root)
    folder = folder or assets.templates()
    known(template, folder)
    _refuse_taken(root)
    return ScaffoldPlan(
        root=root,
        project=project,
        files=templates.render(folder, template, project),
        template=template,
        notes=_notes(root),
    )


def known(template: str, folder: Path) -> None:
    """UsageError unless `folder` has the template."""
    have = templates.names(folder)
    if template not in have:
        raise UsageError(
            f"there is no template {template!r} (have: {', '.join(have)})"
            f"{did_you_mean(template, have)}",
            fix="mlp init NAME --template " + "|".join(have),
        )


def make(plan: ScaffoldPlan) -> str:
    """Write the project, with git and DVC initialised; returns the first commit.

    That commit holds the template as rendered, which a later update builds on. Where something
    fails, nothing is left behind.
    """
    with _all_or_nothing(plan.root):
        write(plan.root, plan.files)
        git.init(plan.root)
        data.init(plan.root)
        return git.commit_all(plan.root, message("Start the project", plan.template))


def message(subject: str, template: str | None) -> str:
    """The message of a commit that holds the template as rendered by this version."""
    trailer = f"{TRAILER}: {template} {version('mlp-loop')}"
    return f"{subject} from the template {template}\n\n{trailer}\n"


def write(root: Path, files: Mapping[str, bytes]) -> None:
    """Write files by their path under `root`, directories made."""
    for name, content in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def _refuse_taken(root: Path) -> None:
    if root.is_dir() and not any(root.iterdir()):
        return
    if root.is_dir():
        adopt = (root / "dvc.yaml").exists()
        raise ConfigurationError(
            f"the directory {root} is not empty",
            fix="`mlp init --existing` there adopts it" if adopt else "choose another NAME",
        )
    if os.path.lexists(root):
        raise ConfigurationError(f"{root} is there, and no directory", fix="choose another NAME")


def _notes(root: Path) -> tuple[str, ...]:
    above = next(folder for folder in (root, *root.parents) if folder.is_dir())
    outer = git.repository(above)
    notes = []
    if outer is not None:
        notes.append(
            f"{root.name} is a git repository of its own inside another one, {outer}, "
            "which shows it as untracked: add it to the .gitignore there, or move it out"
        )
    if not git.has_identity(above):
        notes.append(
            "git does not know your name: commits are by mlp <mlp@localhost> until "
            "`git config --global user.name` and `user.email` are set"
        )
    return tuple(notes)


@contextmanager
def _all_or_nothing(root: Path) -> Iterator[None]:
    """Make `root`; where the block fails, take away what was made."""
    missing = [folder for folder in (root, *root.parents) if not folder.exists()]
    try:
        root.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for entry in [missing[-1]] if missing else list(root.iterdir()):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
        raise


# --- a repository that has a pipeline -----------------------------------------------------------


def plan_adoption(path: Path) -> ScaffoldPlan:
    """mlp.yaml for the DVC project around `path`; nothing else is to change there.

    Raises ConfigurationError where there is no git repository, DVC project or stage, where it has
    an mlp.yaml, or no project can be.
    """
    start = path.resolve()
    root = data.root(start)
    if git.repository(start) is None:
        raise ConfigurationError(
            f"{start} is not in a git repository",
            fix="git init && " + ("dvc init" if root is None else "git add --all && git commit"),
        )
    if root is None:
        raise ConfigurationError(f"{start} is not in a DVC project", fix="dvc init")
    refuse_odd(root)
    layout = Layout(root)
    if os.path.lexists(layout.config):
        raise ConfigurationError(f"there is an mlp.yaml in {root}", fix="mlp run")
    stages = [stage.name for stage in data.stages(root)]
    if not stages:
        raise ConfigurationError(
            f"no dvc.yaml in {root} has a stage",
            fix="dvc stage add --name train --deps src --outs model python src/train.py",
        )
    project = project_name(root)
    moved = (f"mlp.yaml goes to DVC's root, {root}",) if root != start else ()
    return ScaffoldPlan(
        root, project, {layout.config.name: _mlp_yaml(project, stages)}, notes=moved
    )


def adopt(plan: ScaffoldPlan) -> None:
    """Write mlp.yaml. Raises FileExistsError where somebody was faster."""
    for name, content in plan.files.items():
        with open(plan.root / name, "xb") as file:
            file.write(content)


# Not beside the user's files, where git would list it.
_TRACKING = """\
tracking:  # or a server: http://mlflow.example:5000
  uri: sqlite:///.mlp/mlflow.db
"""
_LAUNCH = """\
launch:  # stages of dvc.yaml that mlp launches; the others run as DVC runs them
  train: {strategy: single}
"""
_HINT = """\
# A stage that trains with Lightning can be launched by mlp, on several processes:
# launch:
#   STAGE: {strategy: ddp, processes_per_node: 2}
"""


def _mlp_yaml(project: str, stages: list[str]) -> bytes:
    names = {name.rpartition(":")[2].partition("@")[0] for name in stages}
    launch = _LAUNCH if "train" in names else _HINT
    return f"project: {yaml_text(project)}\n\n{_TRACKING}\n{launch}".encode()
