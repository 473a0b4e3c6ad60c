"""Checkpoints in a real object store: the one that the AWS_* variables name."""

import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import fsspec
import pytest

from tests.integration.test_training_interrupted import EACH_ONCE, live, steps

pytestmark = pytest.mark.cluster


@pytest.fixture
def place() -> Iterator[str]:
    """A stage's folder in a bucket of its own, removed afterwards."""
    bucket = f"mlp-{uuid.uuid4().hex[:8]}"
    store = fsspec.filesystem("s3")
    store.mkdir(bucket)
    yield f"s3://{bucket}/run/train"
    store.rm(bucket, recursive=True)


def names(place: str) -> list[str]:
    store = fsspec.filesystem("s3", skip_instance_cache=True)
    return sorted(path.rpartition("/")[2] for path in store.find(place))


def modified(path: str) -> datetime:
    found: datetime = fsspec.filesystem("s3", skip_instance_cache=True).modified(path)
    return found


def test_training_goes_on_from_s3_and_old_epochs_are_pruned_there(
    tmp_path: Path, place: str
) -> None:
    code, printed = live(tmp_path, MLP_CHECKPOINTS=place)
    assert code == 143, printed
    assert names(place) == ["interrupted.ckpt"]
    code, printed = live(tmp_path, MLP_CHECKPOINTS=place)
    assert code == 0, printed
    assert (tmp_path / "lives0").read_text().split() == ["0", "8"]
    assert steps(tmp_path) == EACH_ONCE
    assert names(place) == ["epoch=1-step=40.ckpt", "interrupted.ckpt", "last.ckpt"]
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_half_written_object_is_passed_over(tmp_path: Path, place: str) -> None:
    assert live(tmp_path, MLP_CHECKPOINTS=place)[0] == 143
    store = fsspec.filesystem("s3", skip_instance_cache=True)
    (whole,) = store.find(place)
    damaged = whole.replace("interrupted", "epoch=9-step=999")
    store.pipe(damaged, store.cat(whole)[:-100])
    while modified(damaged) <= modified(whole):  # it knows whole seconds
        store.pipe(damaged, store.cat(whole)[:-100])
    code, printed = live(tmp_path, MLP_CHECKPOINTS=place)
    assert code == 0, printed
    assert "epoch=9-step=999.ckpt: the file is damaged" in printed
    assert (tmp_path / "lives0").read_text().split() == ["0", "8"]


def test_a_store_that_refuses_is_named_with_what_to_check(tmp_path: Path, place: str) -> None:
    code, printed = live(tmp_path, MLP_CHECKPOINTS=place, AWS_SECRET_ACCESS_KEY="wrong")
    assert code == 1
    assert f"cannot read the checkpoints at {place}" in printed
    assert "credentials" in printed
