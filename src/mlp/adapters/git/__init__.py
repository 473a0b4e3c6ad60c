"""The door to git: its command line, called."""

from mlp.adapters.git.command import git, has_commit, head, repository
from mlp.adapters.git.files import shipped_files
from mlp.adapters.git.history import (
    commit_all,
    commit_tree,
    file_at,
    has_identity,
    init,
    is_shallow,
    merge,
    newest_with_trailer,
    replaced,
    uncommitted_files,
)
from mlp.adapters.git.ignoring import ignored
from mlp.adapters.git.state import MAX_UNTRACKED_BYTES, code
from mlp.adapters.git.trees import Trees, changed_files, content, file_names, trees
from mlp.adapters.git.worktree import check_out, remove_work_tree

__all__ = [
    "MAX_UNTRACKED_BYTES",
    "Trees",
    "changed_files",
    "check_out",
    "code",
    "commit_all",
    "commit_tree",
    "content",
    "file_at",
    "file_names",
    "git",
    "has_commit",
    "has_identity",
    "head",
    "ignored",
    "init",
    "is_shallow",
    "merge",
    "newest_with_trailer",
    "remove_work_tree",
    "replaced",
    "repository",
    "shipped_files",
    "trees",
    "uncommitted_files",
]
