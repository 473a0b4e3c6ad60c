"""Bringing a project up to a newer template: rendered beside its history, merged by git.

docs/adr/0002-template-updates.md says why it is done like this.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlp.adapters import git, templates
from mlp.core import assets
from mlp.core.errors import ConfigurationError, GateRefused
from mlp.flows.scaffold.scaffolding import TRAILER, known, message, write

_NOT_OF_THE_TEMPLATE = ".dvc"


@dataclass(frozen=True, slots=True)
class Update:
    """What a newer template changes in the commit that holds the older one."""

    root: Path
    project: str
    template: str
    base: str
    """The commit with the template as it was rendered last."""
    since: str
    """The version of mlp that rendered it."""
    files: Mapping[str, bytes]
    """The new rendering, whole."""
    changed: tuple[str, ...]
    """The files in which it differs from the last one; none: the project is up to date."""


def plan(path: Path, *, folder: Path | None = None) -> Update:
    """The update of the project at `path` to the templates of `folder` (those that mlp ships).

    Raises ConfigurationError where the project was not made from a template, is not the top of its
    repository, or has changes that are not committed.
    """
    root = path.resolve()
    folder = folder or assets.templates()
    top = git.repository(root)
    if top is None or git.head(root) is None:
        raise ConfigurationError(
            f"{root} is not in a git repository with a commit",
            fix="`mlp init --update` in a project that `mlp init NAME` made",
        )
    base, since = _rendered_last(top)
    if not top.samefile(root):
        raise ConfigurationError(f"{root} is not the project's top directory", fix=f"cd {top}")
    dirty = git.uncommitted_files(top)
    if dirty:
        raise ConfigurationError(
            "there are changes that are not committed",
            fix="git commit or git stash them, then run it again",
            cause="\n".join(dirty),
        )
    answers = templates.answers(git.file_at(top, base, templates.ANSWERS))
    known(answers["template"], folder)
    files = templates.render(folder, answers["template"], answers["project"])
    _, changed = _tree(top, base, files, dry_run=True)
    return Update(top, answers["project"], answers["template"], base, since, files, changed)


def apply(update: Update) -> str:
    """Merge the new rendering into the branch; returns the commit that holds it alone.

    Raises GateRefused, with the files, where git cannot merge by itself: the merge is left for the
    user to finish, as git leaves it.
    """
    tree, _ = _tree(update.root, update.base, update.files, dry_run=False)
    text = message("Update", update.template)
    commit = git.commit_tree(update.root, tree, update.base, text)
    conflicts = git.merge(update.root, commit, f"Merge the newer template {update.template}")
    if conflicts:
        raise GateRefused(
            f"the update and your changes meet in {len(conflicts)} file(s)",
            fix="edit them, `git add` them, `git commit`; or give up with `git merge --abort`",
            cause="\n".join(conflicts),
        )
    return commit


def _rendered_last(top: Path) -> tuple[str, str]:
    """The newest commit that holds a rendering, and the version that made it."""
    found = git.newest_with_trailer(top, TRAILER)
    if found is None:
        raise ConfigurationError(
            f"no commit here holds a template (none has the trailer {TRAILER})",
            fix="git fetch --unshallow"
            if git.is_shallow(top)
            else "only a project that `mlp init NAME` made, history included, can be updated",
        )
    commit, value = found
    return commit, value.partition(" ")[2]


def _tree(
    top: Path, base: str, files: Mapping[str, bytes], *, dry_run: bool
) -> tuple[str, tuple[str, ...]]:
    with tempfile.TemporaryDirectory(prefix="mlp-update-") as scratch:
        write(Path(scratch), files)
        return git.replaced(top, base, Path(scratch), _NOT_OF_THE_TEMPLATE, dry_run=dry_run)
