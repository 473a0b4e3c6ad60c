"""The patch of what is not committed, where git can be mistaken about what has changed."""

import os
import subprocess
from pathlib import Path

from mlp.adapters import git


def test_a_change_within_the_second_of_the_commit_is_in_the_patch(tmp_path: Path) -> None:
    """git compares whole seconds: it reads a file again only where its index is as old."""

    def tool(*arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True, capture_output=True)

    params, moment = tmp_path / "params.yaml", 1_700_000_000
    tool("init", "--quiet")
    tool("config", "core.trustctime", "false")
    params.write_text("lr: 0.1\n")
    os.utime(params, (moment, moment))
    tool("add", ".")
    tool("-c", "user.name=x", "-c", "user.email=x@x", "commit", "--quiet", "--message=first")
    os.utime(tmp_path / ".git/index", (moment, moment))
    params.write_text("lr: 0.3\n")
    os.utime(params, (moment, moment))

    state, patch = git.code(tmp_path)

    assert state.dirty
    assert b"-lr: 0.1\n+lr: 0.3\n" in patch
