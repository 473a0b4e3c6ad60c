"""Code bundles of real repositories: which files are the code, and when it is packed anew."""

import hashlib
import os
import shutil
import socket
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mlp.adapters import bundle, git
from mlp.core.errors import ConfigurationError
from tests.conftest import Make, Project

LIMIT = 2**20


def names_in(archive: Path) -> list[str]:
    with tarfile.open(archive, errors="surrogateescape") as tar:
        return tar.getnames()


def packed(project: Project, *ignore: str, limit: int = LIMIT) -> bundle.Bundle:
    files = git.shipped_files(project.root, ignore)
    return bundle.make(project.root, files, project.root / ".mlp" / "bundles", limit)


def settled(project: Project) -> bundle.Bundle:
    """The bundle once it is taken as it is: files that have just changed are read once more."""
    made = packed(project)
    for _ in range(100):
        inode = made.path.stat().st_ino
        made = packed(project)
        if made.path.stat().st_ino == inode:
            return made
    raise AssertionError("it is packed anew for ever")


# --- which files --------------------------------------------------------------------------------


def test_the_code_is_what_git_tracks_or_does_not_ignore(project: Project) -> None:
    project.write({"new.py": "", "__pycache__/old.pyc": "", "sub/.gitignore": "secret\n"})
    project.write({"sub/secret": "", "sub/open": ""})
    files = git.shipped_files(project.root, [])
    assert {"train.py", "dvc.yaml", ".dvc/config", "new.py", "sub/open"} <= set(files)
    assert not {"__pycache__/old.pyc", "sub/secret", "mlflow.db"} & set(files)
    assert files == sorted(files, key=os.fsencode)


@pytest.mark.parametrize(
    ("patterns", "dropped"),
    [
        (["*.csv"], {"a.csv", "docs/a.csv", "docs/deep/a.csv"}),
        (["/a.csv"], {"a.csv"}),
        (["docs/"], {"docs/a.csv", "docs/deep/a.csv", "docs/b.py"}),
        (["docs/**", "!docs/b.py"], {"docs/a.csv", "docs/deep/a.csv"}),
        (["docs/*.csv"], {"docs/a.csv"}),
        ([], set()),
    ],
)
def test_mlpignore_drops_tracked_and_new_files_by_gits_rules(
    make_project: Make, patterns: list[str], dropped: set[str]
) -> None:
    names = {"a.csv", "docs/a.csv", "docs/deep/a.csv", "docs/b.py"}
    project = make_project(dict.fromkeys(names, ""))
    files = git.shipped_files(project.root, patterns)
    assert names - set(files) == dropped
    new = make_project(dict.fromkeys(names, ""), project.root.parent / "new", False)
    assert names - set(git.shipped_files(new.root, patterns)) == dropped


def test_submodules_come_along_and_other_repositories_are_named(
    make_project: Make, tmp_path: Path
) -> None:
    library = make_project({"lib.py": "", "data.csv": ""}, tmp_path / "library")
    project = make_project()
    add = ("git", "-c", "protocol.file.allow=always", "submodule", "add", "--quiet")
    for path in ("vendor/library", "vendor/absent"):
        project.tool(*add, str(library.root), path)
    project.commit()
    project.tool("git", "submodule", "--quiet", "deinit", "vendor/absent")
    project.write({"vendor/library/new.py": "", "vendor/library/__pycache__/x": ""})
    project.tool("git", "init", "--quiet", "nested")
    project.write({"nested/file.py": ""})
    files = set(git.shipped_files(project.root, ["*.csv", "/vendor/library/dvc.yaml"]))
    assert {f"vendor/library/{name}" for name in ("lib.py", "new.py", "train.py")} <= files
    assert {"vendor/absent/", "nested/"} <= files
    assert not {f"vendor/library/{n}" for n in ("data.csv", "dvc.yaml", "__pycache__/x")} & files
    made = packed(project)
    assert all("a repository of its own" in made.left_out[n] for n in ("vendor/absent/", "nested/"))
    assert "nested/" not in git.shipped_files(project.root, ["nested"])


def test_names_of_any_bytes_are_listed_as_they_are(project: Project) -> None:
    odd = [os.fsdecode(b"\xff\xfe"), "a\nb", "-n", 'quo"te', "é ü"]
    project.write(dict.fromkeys(odd[2:], "tracked"))
    project.commit()
    project.write(dict.fromkeys(odd[:2], "new"))
    assert set(odd) <= set(git.shipped_files(project.root, ["*.csv"]))


def test_outside_of_git_the_way_in_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="not in a git repository") as refused:
        git.shipped_files(tmp_path, [])
    assert refused.value.fix == "git init"


# --- what goes in -------------------------------------------------------------------------------


def test_neither_secrets_nor_state_are_packed_even_when_tracked(project: Project) -> None:
    project.write({".env": "PASSWORD=secret-1", "keys/a.pem": "secret-1", ".dvc/config.local": "s"})
    project.tool("git", "add", "--force", ".env", "keys/a.pem", ".dvc/config.local", "mlflow.db")
    made = packed(project)
    names = names_in(made.path)
    assert {"train.py", ".dvc/config", "dvc.yaml"} <= set(names)
    assert {".env", "keys/a.pem", ".dvc/config.local", "mlflow.db"} <= set(made.left_out)
    assert not set(names) & set(made.left_out)
    assert made.files == len(names)


def test_links_stay_links_and_those_that_lead_outside_are_left_out(
    project: Project, tmp_path: Path
) -> None:
    (tmp_path / "private").write_text("private")
    links = {
        "inside": "train.py",
        "deep/inside": "../train.py",
        "dangling": "data/later",
        "outside": "../private",
        "absolute": str(project.root / "train.py"),
        "deep/chain": "../deep/up/../../private",
        "deep/up": "..",
    }
    (project.root / "deep").mkdir()
    for name, target in links.items():
        (project.root / name).symlink_to(target)
    project.commit()
    made = packed(project)
    assert {"outside", "absolute", "deep/chain"} == set(made.left_out)
    bundle.unpack(made.path, tmp_path / "into", made.digest)
    for name in ("inside", "deep/inside", "dangling", "deep/up"):
        assert str((tmp_path / "into" / name).readlink()) == links[name]


def test_a_directory_that_became_a_link_brings_nothing_from_behind_it(
    make_project: Make, tmp_path: Path
) -> None:
    project = make_project({"conf/a/key": "ours"})
    (tmp_path / "private" / "a").mkdir(parents=True)
    (tmp_path / "private" / "a" / "key").write_text("private")
    shutil.rmtree(project.root / "conf")
    (project.root / "conf").symlink_to("../private")
    made = packed(project)
    assert made.left_out["conf/a/key"] == "lies behind a symbolic link"
    assert not [name for name in names_in(made.path) if name.startswith("conf")]


def test_what_is_gone_or_no_file_is_left_out(project: Project) -> None:
    (project.root / "prep.py").unlink()
    os.mkfifo(project.root / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(project.root / "socket"))
        files = [*git.shipped_files(project.root, []), "pipe", "socket"]
        made = bundle.make(project.root, files, project.root / ".mlp", LIMIT)
    assert {"prep.py", "pipe", "socket"} == set(made.left_out)


def test_names_with_control_characters_are_refused_unless_they_are_ignored(
    project: Project,
) -> None:
    project.write({"a\x1b[31mb": "", "a\nb": ""})
    with pytest.raises(ConfigurationError, match="control characters") as refused:
        packed(project)
    assert refused.value.message.isprintable()
    assert ".mlpignore" in refused.value.fix
    assert packed(project, "a*b").files


def test_too_much_is_refused_with_the_biggest_files_and_the_ways_out(project: Project) -> None:
    project.write({"data/big.csv": "x" * 900_000, "data/small.csv": "x" * 300_000})
    with pytest.raises(ConfigurationError) as refused:
        packed(project)
    assert "1.1 MiB" in refused.value.message
    assert "at most 1.0 MiB" in refused.value.message
    assert "data/big.csv (0.9 MiB), data/small.csv (0.3 MiB)" in refused.value.message
    for way in ("dvc add", ".mlpignore", "max_bundle"):
        assert way in refused.value.fix
    assert packed(project, "data/big.csv").largest[0] == ("data/small.csv", 300_000)


# --- the second time ----------------------------------------------------------------------------


def test_an_unchanged_repository_is_not_packed_again(project: Project) -> None:
    made = settled(project)
    before = made.path.stat().st_ino
    again = packed(project)
    assert again == made
    assert again.path.stat().st_ino == before


@pytest.mark.parametrize("change", ["content", "mode", "new", "gone"])
def test_every_change_is_packed(project: Project, change: str) -> None:
    before = settled(project)
    file = project.root / "train.py"
    found = file.stat()
    if change == "content":  # of the same size and time
        file.write_bytes(file.read_bytes().swapcase())
        os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))
    elif change == "mode":
        file.chmod(0o755)
    elif change == "new":
        project.write({"new.py": ""})
    else:
        file.unlink()
    after = packed(project)
    assert after.digest != before.digest
    assert after.content != before.content
    assert ("new.py" in names_in(after.path)) == (change == "new")
    assert ("train.py" in names_in(after.path)) == (change != "gone")


@pytest.mark.parametrize("damage", ["gone", "cut", "changed", "memo"])
def test_a_damaged_memo_is_made_again(project: Project, damage: str) -> None:
    made = settled(project)
    content = made.path.read_bytes()
    if damage == "gone":
        made.path.unlink()
    elif damage == "cut":
        made.path.write_bytes(content[:-10])
    elif damage == "changed":
        made.path.write_bytes(content[:-10] + bytes(10))
    else:
        for file in made.path.parent.glob("*.json"):
            file.write_text("[]")
    assert packed(project).digest == made.digest
    assert made.path.read_bytes() == content


def test_the_newest_three_archives_are_kept(project: Project) -> None:
    made = []
    for number in range(5):
        project.write({"n.py": str(number)})
        made.append(packed(project).path)
        os.utime(made[-1], (number, number))
    stale = made[-1].parent / "left.part"
    stale.touch()
    os.utime(stale, (0, 0))
    project.write({"n.py": "5"})
    made.append(packed(project).path)
    assert [path.exists() for path in made] == [False] * 3 + [True] * 3
    assert not stale.exists()


def test_several_at_once_get_the_same(project: Project) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: packed(project), range(8)))
    assert len({each.digest for each in made}) == 1
    assert hashlib.sha256(made[0].path.read_bytes()).hexdigest() == made[0].digest
    assert not list(made[0].path.parent.glob("*.part"))


# --- unpacking ----------------------------------------------------------------------------------


def test_an_unpacking_that_fails_halfway_leaves_nothing(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "archive", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("good"))
        tar.addfile(tarfile.TarInfo("/".join(["d" * 250] * 17)))  # longer than the kernel takes
    digest = hashlib.sha256((tmp_path / "archive").read_bytes()).hexdigest()
    with pytest.raises(OSError, match="too long"):
        bundle.unpack(tmp_path / "archive", tmp_path / "into", digest)
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


def test_what_is_there_already_is_not_overwritten(project: Project, tmp_path: Path) -> None:
    made = packed(project)
    (tmp_path / "into").mkdir()
    bundle.unpack(made.path, tmp_path / "into", made.digest)
    assert (tmp_path / "into" / "train.py").read_text() == (project.root / "train.py").read_text()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for place in ("into", "link"):
        with pytest.raises(ConfigurationError, match="is there already"):
            bundle.unpack(made.path, tmp_path / place, made.digest)
