"""What a job made comes into this workspace, as if the stage's command had made it here."""

import json
import shutil
import tempfile
from pathlib import Path

from mlp.adapters import bundle, data
from mlp.core.errors import ConfigurationError, RemoteError
from mlp.core.launch import job_spec as jobs
from mlp.core.launch.job_spec import JobSpec
from mlp.core.layout import RunLayout


def receive(root: Path, spec: JobSpec, uid: str) -> int:
    """Put the job's outputs in place; returns how many there are.

    Raises RemoteError where the result is not there, ConfigurationError where the stage's inputs
    are others here than they were in the job: DVC would write down that these made the outputs.
    """
    storage = data.storage(root)
    text = storage.read(f"{spec.folder(uid)}/{jobs.RESULT}")
    if text is None:
        raise RemoteError(
            f"job {spec.name} has ended without a result",
            fix=f"mlp jobs logs {spec.name}",
        )
    result = json.loads(text)
    _refuse_other_inputs(root, spec, result["inputs"])
    made = [data.Made(**item) for item in result["outs"]]
    data.receive(root, spec.stage, made)
    if result["files"]:
        _receive_files(root, storage, f"{spec.folder(uid)}/{jobs.FILES}", result["files"], made)
    return len(made)


def receive_record(root: Path, run: RunLayout, spec: JobSpec, uid: str) -> None:
    """Bring what the pods recorded and could not deliver; the run's recorder delivers it."""
    storage = data.storage(root)
    folder = f"{spec.folder(uid)}/{jobs.RECORD}/"
    names = storage.names(folder)
    there = f"{jobs.POD_RUNS}/{spec.run_id}/".encode()
    # Events last: what they speak of is there when they are read.
    for name in sorted(names, key=lambda name: name.endswith(".jsonl")):
        part = name.removeprefix(folder)
        if part in (run.delivery.name, run.header.name):
            continue
        target = run.path / part
        with tempfile.TemporaryDirectory(dir=run.path) as scratch:
            file = Path(scratch) / "file"
            storage.get(name, file)
            if target.suffix == ".jsonl":
                file.write_bytes(file.read_bytes().replace(there, f"{run.path}/".encode()))
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():  # of a log there is one here already
                file.replace(target)


def _refuse_other_inputs(root: Path, spec: JobSpec, there: dict[str, object]) -> None:
    here = json.loads(json.dumps(data.input_states(root, spec.stage), default=str))
    changed = sorted(name for name in {*here, *there} if here.get(name) != there.get(name))
    if changed:
        raise ConfigurationError(
            f"{', '.join(changed)} changed here since job {spec.name} was submitted: its outputs "
            "were made from other inputs",
            fix=f"undo these changes, then: mlp jobs attach {spec.name}; or run the stage again",
        )


def _receive_files(
    root: Path, storage: data.Storage, name: str, digest: str, made: list[data.Made]
) -> None:
    """Outputs that DVC does not keep, such as metrics."""
    with tempfile.TemporaryDirectory(dir=root / ".mlp") as scratch:
        archive, unpacked = Path(scratch) / "files.tar.gz", Path(scratch) / "files"
        storage.get(name, archive)
        bundle.unpack(archive, unpacked, digest)
        for item in made:
            source, target = unpacked / item.path, root / item.path
            if item.digest is not None or not source.exists():
                continue
            if target.is_dir():
                shutil.rmtree(target)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(source, target)
