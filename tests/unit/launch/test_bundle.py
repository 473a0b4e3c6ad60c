"""Code bundles: what goes in comes out, the same each time, and nothing gets out of its place."""

import gzip
import hashlib
import io
import os
import random
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlp.adapters import bundle
from mlp.core.errors import ConfigurationError, RemoteError
from mlp.core.launch import bundle_rules as rules

LIMIT = 2**30
# Few names, so that files, links and directories meet; hostile ones among them.
PART = st.sampled_from(["a", "b", "c", "-rf", "a b", "é", "*", "x" * 200]) | st.binary(
    min_size=1, max_size=12
).map(lambda raw: os.fsdecode(raw.replace(b"/", b"_").replace(b"\0", b"_")))
NAME = st.lists(PART.filter(lambda part: part not in (".", "..")), min_size=1, max_size=4)
TARGET = st.lists(st.sampled_from(["a", "b", "c", "..", ".", "é"]), min_size=1, max_size=5)


@dataclass(frozen=True)
class Node:
    """A file, or a link where it has a target."""

    content: bytes = b""
    executable: bool = False
    target: str = ""


NODE = st.builds(Node, st.binary(max_size=2000), st.booleans()) | st.builds(
    Node, target=st.builds(str.__add__, st.sampled_from(["", "/"]), TARGET.map("/".join))
)
TREE = st.dictionaries(NAME.map("/".join), NODE, max_size=8)


def write(top: Path, tree: Mapping[str, Node]) -> list[str]:
    """Make the tree, without what stands in another's way; returns the names that are there."""
    made = []
    for name, node in tree.items():
        path = top / name
        if any((top / above).is_symlink() for above in Path(name).parents if str(above) != "."):
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if node.target:
                path.symlink_to(node.target)
            else:
                path.write_bytes(node.content)
                path.chmod(0o755 if node.executable else 0o644)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            continue
        made.append(name)
    return made


def read(top: Path) -> dict[str, Node]:
    """The files and links of a tree, as bytes and modes."""
    found = {}
    for folder, directories, files in os.walk(top):
        for name in [*directories, *files]:
            path = Path(folder, name)
            if path.is_symlink():
                node = Node(target=str(path.readlink()))
            elif path.is_file():
                node = Node(path.read_bytes(), path.stat().st_mode & 0o7777 == 0o755)
            else:
                continue
            found[str(path.relative_to(top))] = node
    return found


def travels(name: str) -> bool:
    return not rules.control_characters(name) and not rules.left_out(name)


# --- what goes in comes out ---------------------------------------------------------------------


@given(TREE)
@example({"a/l": Node(target=".."), "b": Node(target="a/l/..")})
@example({"l": Node(target="l")})
@example({os.fsdecode(b"\xff/\xfe"): Node(b"x"), "-rf/" + "x" * 250: Node(b"y")})
def test_every_tree_comes_back_byte_for_byte(tree: Mapping[str, Node]) -> None:
    tree = {name: node for name, node in tree.items() if travels(name)}
    with tempfile.TemporaryDirectory() as folder:
        top, into = Path(folder, "top"), Path(folder, "into")
        top.mkdir()
        names = write(top, tree)
        made = bundle.make(top, names, Path(folder, "memo"), LIMIT)
        bundle.unpack(made.path, into, made.digest)
        there = read(top)
        came = read(into)
        assert came == {name: there[name] for name in there if name not in made.left_out}
        # Only links may stay behind, and those that came lead to nothing outside.
        assert all(there[name].target for name in made.left_out)
        for name, node in came.items():
            if node.target:
                assert Path(os.path.realpath(into / name)).is_relative_to(os.path.realpath(into))
        assert made.files == len(came)
        assert made.size == made.path.stat().st_size
        assert made.digest == hashlib.sha256(made.path.read_bytes()).hexdigest()


@given(TREE, st.randoms(use_true_random=False))
def test_the_same_content_makes_the_same_archive(
    tree: Mapping[str, Node], order: random.Random
) -> None:
    tree = {name: node for name, node in tree.items() if travels(name)}
    with tempfile.TemporaryDirectory() as folder:
        top, twin = Path(folder, "top"), Path(folder, "elsewhere", "twin")
        top.mkdir()
        twin.mkdir(parents=True)
        names = write(top, tree)
        umask = os.umask(0o077)
        try:
            assert write(twin, tree) == names
        finally:
            os.umask(umask)
        for name in names:
            if not (twin / name).is_symlink():
                (twin / name).chmod(0o700 if tree[name].executable else 0o600)
            os.utime(twin / name, (1, 1), follow_symlinks=False)
        first = bundle.make(top, names, Path(folder, "memo"), LIMIT)
        shuffled = [*names, *names]
        order.shuffle(shuffled)
        second = bundle.make(twin, shuffled, Path(folder, "memo2"), LIMIT)
        assert (first.digest, first.content) == (second.digest, second.content)
        assert dict(first.left_out) == dict(second.left_out)


@given(TREE, TREE)
def test_another_content_makes_another_archive(
    one: Mapping[str, Node], other: Mapping[str, Node]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made, states = [], []
        for number, tree in enumerate((one, other)):
            top = Path(folder, str(number))
            top.mkdir()
            kept = {name: node for name, node in tree.items() if travels(name)}
            made.append(bundle.make(top, write(top, kept), Path(folder, "memo"), LIMIT))
            there = read(top)
            states.append({n: there[n] for n in there if n not in made[-1].left_out})
        assert (states[0] == states[1]) == (made[0].content == made[1].content)
        assert (states[0] == states[1]) == (made[0].digest == made[1].digest)


@pytest.mark.parametrize("content", [b"x = 1\n" * 10**6, random.Random(0).randbytes(5_000_000)])
def test_files_of_many_blocks_come_back_and_take_no_more_room(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "top").mkdir()
    write(tmp_path / "top", {"big": Node(content), "small": Node(b"1")})
    made = bundle.make(tmp_path / "top", ["big", "small"], tmp_path / "memo", LIMIT)
    bundle.unpack(made.path, tmp_path / "into", made.digest)
    assert read(tmp_path / "into") == {"big": Node(content), "small": Node(b"1")}
    assert made.size < len(content) * 1.001 + 4096
    assert made.largest == (("big", len(content)), ("small", 1))


@given(NAME.map("/".join))
def test_a_name_is_shown_on_one_line_and_can_be_printed(name: str) -> None:
    shown = rules.shown(name)
    assert shown.isprintable()
    assert shown.encode()


# --- what never travels -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        ".env",
        "deploy/.env.production",
        "certificates/server.KEY",
        "home/id_rsa",
        ".git/config",
        "vendor/lib/.git",
        ".dvc/config.local",
        "sub/.dvc/tmp/lock",
        ".dvc/cache/files/md5/00/11",
        ".mlp/runs/1/run.json",
        "mlflow.db",
        "mlflow.db-wal",
        "mlruns/0/meta.yaml",
        "sub/mlartifacts/1/model",
    ],
)
def test_secrets_and_the_tools_own_state_never_travel(tmp_path: Path, name: str) -> None:
    write(tmp_path, {name: Node(b"x"), "train.py": Node(b"y")})
    made = bundle.make(tmp_path, [name, "train.py"], tmp_path / "memo", LIMIT)
    assert list(made.left_out) == [name]
    assert made.left_out[name] == rules.left_out(name) != ""
    assert made.files == 1


@pytest.mark.parametrize(
    "name",
    [
        ".dvc/config",
        ".dvc/.gitignore",
        "dvc.yaml",
        "dvc.lock",
        "data/raw.csv.dvc",
        "src/mlp/environment.py",
        "keys.py",
        ".gitignore",
        ".gitmodules",
        "src/mlruns.py",
        "tmp/cache/config.local",
    ],
)
def test_what_a_stage_needs_travels(name: str) -> None:
    assert rules.left_out(name) == ""


# --- hostile archives ---------------------------------------------------------------------------


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", mode: int = 0o644) -> object:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, target, mode
    info.pax_headers = {"path": name}  # as it is: a header would end it at NUL
    info.size = len(b"evil") if kind == tarfile.REGTYPE else 0
    return info


def archive_of(members: Sequence[object], path: Path) -> str:
    """A bundle of these members, and its digest."""
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as tar:
        for info in members:
            assert isinstance(info, tarfile.TarInfo)
            tar.addfile(info, io.BytesIO(b"evil") if info.isreg() else None)
    return hashlib.sha256(path.read_bytes()).hexdigest()


LINK, HARD, FOLDER = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE


@pytest.mark.parametrize(
    "members",
    [
        [member("/etc/evil")],
        [member("../evil")],
        [member("a/../../evil")],
        [member("a/../b")],
        [member("./a")],
        [member("a\0b")],
        [member("a\nb")],
        [member("a\x1b[2Jb")],
        [member("x" * 256)],
        [member("l", LINK, "/etc/passwd")],
        [member("l", LINK, "..")],
        [member("l", LINK, "")],
        [member("a/l", LINK, "../../outside")],
        [member("d", LINK, "."), member("d/evil")],
        [member("d/evil"), member("d", LINK, ".")],
        [member("a/b/up", LINK, "../.."), member("l", LINK, "a/b/up/../../outside")],
        [member("l", LINK, "a/b/up/.."), member("a/b/up", LINK, "../..")],
        [member("a", LINK, "b"), member("b", LINK, "a")],
        [member("d", FOLDER), member("d", LINK, "..")],
        [member("d", FOLDER), member("d", LINK, "e"), member("d/evil")],
        [member("a"), member("a")],
        [member("a"), member("a/b")],
        [member("a"), member("h", HARD, "a")],
        [member("h", HARD, "../outside/file")],
        [member("h", HARD, "/etc/passwd")],
        [member("null", tarfile.CHRTYPE)],
        [member("disk", tarfile.BLKTYPE)],
        [member("pipe", tarfile.FIFOTYPE)],
        [member("good"), member("../evil")],
    ],
)
def test_a_hostile_member_is_refused_before_anything_is_written(
    tmp_path: Path, members: Sequence[object]
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("mine")
    digest = archive_of(members, tmp_path / "archive")
    before = read(tmp_path)
    with pytest.raises(ConfigurationError, match="refused"):
        bundle.unpack(tmp_path / "archive", tmp_path / "into", digest)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive", "outside"]
    assert read(tmp_path) == before


STEP = st.sampled_from(["a", "b", "c", "..", ".", ""])
PATH = st.builds(
    str.__add__, st.sampled_from(["", "", "", "/"]), st.lists(STEP, max_size=4).map("/".join)
)
KIND = st.sampled_from([tarfile.REGTYPE, LINK, LINK, HARD, FOLDER, tarfile.FIFOTYPE])
MODE = st.sampled_from([0o644, 0o755, 0o4755, 0o2777, 0o1777, 0])


@given(st.lists(st.builds(member, PATH, KIND, PATH, MODE), max_size=6))
@example([member("a", mode=0o4777), member("d", FOLDER, mode=0o2777), member("d/b", mode=0)])
@example([member("a/b/c", LINK, "../.."), member("b", LINK, "a/b/c/.."), member("b/x")])
def test_no_archive_writes_outside_or_leads_there(members: Sequence[object]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(os.path.realpath(name))
        into = folder / "deep" / "into"
        into.parent.mkdir()
        digest = archive_of(members, folder / "archive")
        try:
            bundle.unpack(folder / "archive", into, digest)
        except ConfigurationError:
            assert not list(into.parent.iterdir())
        else:
            assert list(into.parent.iterdir()) == [into]
            for where, directories, files in os.walk(into):
                for path in (Path(where, found) for found in [*directories, *files]):
                    assert Path(os.path.realpath(path)).is_relative_to(into)
                    assert path.is_symlink() or path.stat().st_mode & 0o7000 == 0
                    assert path.is_symlink() or path.stat().st_mode & 0o022 == 0
        assert sorted(p.name for p in folder.iterdir()) == ["archive", "deep"]


@given(st.data())
def test_an_archive_that_is_not_the_right_one_is_not_unpacked(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        (top / "train.py").write_text("x = 1\n")
        made = bundle.make(top, ["train.py"], top / "memo", LIMIT)
        raw = bytearray(made.path.read_bytes())
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place] ^= data.draw(st.integers(1, 255))
        cut = data.draw(st.booleans())
        made.path.write_bytes(raw[:place] if cut else raw)
        with pytest.raises(RemoteError, match="damaged"):
            bundle.unpack(made.path, top / "into", made.digest)
        assert not (top / "into").exists()


@given(st.data())
def test_nonsense_with_the_right_digest_is_no_bundle(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        archive_of([member("a"), member("é" * 120)], folder / "archive")
        raw = bytearray((folder / "archive").read_bytes())
        place = data.draw(st.integers(0, len(raw) - 1))
        raw = data.draw(st.sampled_from([raw[:place], raw[place:], raw[:place] + raw]))
        (folder / "archive").write_bytes(raw)
        try:
            bundle.unpack(folder / "archive", folder / "into", hashlib.sha256(raw).hexdigest())
        except ConfigurationError:
            assert sorted(p.name for p in folder.iterdir()) == ["archive"]
        else:  # the end of the files was there
            assert set(read(folder / "into")) == {"a", "é" * 120}


@pytest.mark.parametrize("blocks", [3, 2, 1])
def test_a_bundle_whose_end_is_missing_is_not_taken_for_complete(
    tmp_path: Path, blocks: int
) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("2")
    made = bundle.make(tmp_path, ["a", "b"], tmp_path / "memo", LIMIT)
    tar = gzip.decompress(made.path.read_bytes())
    raw = gzip.compress(tar[: blocks * tarfile.BLOCKSIZE])
    made.path.write_bytes(raw)
    with pytest.raises(ConfigurationError, match="not a code bundle"):
        bundle.unpack(made.path, tmp_path / "into", hashlib.sha256(raw).hexdigest())
    assert not (tmp_path / "into").exists()
