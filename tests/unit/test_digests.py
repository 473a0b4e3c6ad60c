"""One digest for a folder: it changes with the content, and with nothing else."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlp.adapters.base import folder_digests
from mlp.core.digests import changes, combined

NAMES = st.text("ab-. \n'\"\\ü", min_size=1, max_size=4).filter(lambda n: n not in (".", ".."))
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
TREES = st.dictionaries(PATHS, st.binary(max_size=3), max_size=5).filter(
    lambda tree: (
        not any(f"{other}/".startswith(f"{one}/") for one in tree for other in tree if one != other)
    )
)
RECORDS = st.dictionaries(PATHS, st.text("0123456789abcdef \n", max_size=3), max_size=4)


@contextmanager
def written(tree: Mapping[str, bytes]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        for path, content in tree.items():
            file = Path(folder) / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        yield Path(folder)


def digest(tree: Mapping[str, bytes]) -> str:
    with written(tree) as folder:
        return folder_digests.of(folder)


# --- of what was found out ------------------------------------------------------------------------


@given(RECORDS, RECORDS)
def test_two_records_have_the_same_digest_only_if_they_say_the_same(
    one: dict[str, str], other: dict[str, str]
) -> None:
    assert (combined(one) == combined(other)) == (one == other)


@given(RECORDS)
def test_the_order_of_a_record_does_not_matter(record: dict[str, str]) -> None:
    assert combined(dict(reversed(record.items()))) == combined(record)
    assert combined(record).startswith("sha256:") and len(combined(record)) == len("sha256:") + 64


@given(RECORDS, RECORDS)
def test_what_differs_is_named_each_once(one: dict[str, str], other: dict[str, str]) -> None:
    both = one.keys() & other.keys()
    assert changes(one, other) == sorted(
        [f"missing: {path}" for path in one.keys() - other.keys()]
        + [f"added: {path}" for path in other.keys() - one.keys()]
        + [f"changed: {path}" for path in both if one[path] != other[path]]
    )


# --- of folders -----------------------------------------------------------------------------------


@given(TREES, TREES)
def test_two_folders_have_the_same_digest_only_if_their_files_are_the_same(
    one: dict[str, bytes], other: dict[str, bytes]
) -> None:
    assert (digest(one) == digest(other)) == (one == other)


@given(TREES.filter(bool), st.data())
def test_any_change_of_a_file_changes_the_digest_and_is_named(
    tree: dict[str, bytes], data: st.DataObject
) -> None:
    path = data.draw(st.sampled_from(sorted(tree)))
    with written(tree) as folder:
        before = folder_digests.files(folder)
        assert set(before) == set(tree)
        file = folder / path
        fate = data.draw(st.sampled_from(["changed", "longer", "removed", "renamed", "added"]))
        if fate == "changed":
            file.write_bytes(bytes(b ^ 1 for b in tree[path]) or b"\0")
        elif fate == "longer":
            file.write_bytes(tree[path] + b"\n")
        elif fate == "removed":
            file.unlink()
        elif fate == "renamed":
            file.rename(file.with_name("another"))
        else:
            (folder / "another").touch()
        after = folder_digests.files(folder)
        another = file.with_name("another").relative_to(folder).as_posix()
        assert combined(after) != combined(before)
        assert (
            changes(before, after)
            == {
                "changed": [f"changed: {path}"],
                "longer": [f"changed: {path}"],
                "removed": [f"missing: {path}"],
                "renamed": [f"added: {another}", f"missing: {path}"],
                "added": ["added: another"],
            }[fate]
        )


@given(TREES.filter(bool))
def test_times_modes_and_the_order_of_writing_do_not_matter(tree: dict[str, bytes]) -> None:
    with written(dict(reversed(tree.items()))) as folder:
        for path in tree:
            os.utime(folder / path, (0, 0))
            (folder / path).chmod(0o400)
        assert folder_digests.of(folder) == digest(tree)


def test_what_reading_a_model_leaves_behind_is_no_content() -> None:
    with written({"MLmodel": b"x", "code/a.py": b""}) as folder:
        before = folder_digests.of(folder)
        (folder / "code" / "__pycache__").mkdir()
        (folder / "code" / "__pycache__" / "a.pyc").write_bytes(b"x")
        (folder / "registered_model_meta").write_bytes(b"x")
        (folder / ".DS_Store").write_bytes(b"x")
        assert folder_digests.of(folder) == before


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_link_leads_to_is_content(kind: str) -> None:
    with written({"a.py": b"1"}) as elsewhere, written({"MLmodel": b"x"}) as folder:
        before = folder_digests.of(folder)
        (folder / "code").symlink_to(elsewhere / "a.py" if kind == "file" else elsewhere)
        linked = folder_digests.of(folder)
        assert linked != before
        copied = {"MLmodel": b"x", ("code" if kind == "file" else "code/a.py"): b"1"}
        assert linked == digest(copied)
        (elsewhere / "a.py").write_bytes(b"2")
        assert folder_digests.of(folder) not in (before, linked)


def test_a_link_in_a_circle_is_not_followed_for_ever() -> None:
    with written({"MLmodel": b"x", "code/a.py": b""}) as folder:
        before = folder_digests.of(folder)
        (folder / "code" / "up").symlink_to(folder)
        assert folder_digests.of(folder) == before
