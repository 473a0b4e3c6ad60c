"""Two states of a real repository are compared with git and the DVC cache."""

import json
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest
from dvc.repo import Repo

from mlp.adapters import data, git
from mlp.adapters.base import machine
from mlp.cli.views.runs_diff import diff_text, why_text
from mlp.core.compare import blame, contrast
from mlp.core.compare.run_comparison import Difference, RunState
from mlp.core.runs.provenance import Provenance
from mlp.core.runs.recorded_run import RunRecord, Tag
from mlp.core.runs.run_request import RunRequest
from mlp.flows import project
from mlp.flows.compare import comparing
from mlp.flows.runs import running, syncing

PREPARE = """\
import csv
rows = [row for row in csv.DictReader(open("data/raw/it's [1].csv")) if row["delay"] != "NA"]
writer = csv.DictWriter(open("clean.csv", "w", newline=""), list(rows[0]))
writer.writeheader()
writer.writerows(rows)
"""
TRAIN = """\
import csv, json
lr = json.load(open("params.json"))["lr"]
rows = [float(row["delay"]) for row in csv.DictReader(open("clean.csv"))]
json.dump({"f1": lr * sum(rows) / len(rows)}, open("metrics.json", "w"))
"""
PIPELINE = """\
stages:
  prepare:
    cmd: python src/prepare.py
    deps: [src/prepare.py, data/raw]
    outs: [clean.csv]
  train:
    cmd: python src/train.py
    deps: [src/train.py, clean.csv, lookup.csv]
    params: [params.json: [lr]]
    metrics: [metrics.json: {cache: false}]
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in a directory below its repository's root, with a first commit."""
    for name, value in (("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_SYSTEM", "/dev/null")):
        monkeypatch.setenv(name, value)
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "n")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "n@example.com")
    git.git(["init", "--quiet", "--initial-branch=main", "."], tmp_path)
    root = tmp_path / "my project"
    root.mkdir()
    monkeypatch.chdir(root)
    Repo.init(str(root), subdir=True).close()
    _write(root / "src/prepare.py", PREPARE)
    _write(root / "src/train.py", TRAIN)
    _write(root / "dvc.yaml", PIPELINE)
    _write(root / "params.json", '{"lr": 0.5}')
    _write(root / "lookup.csv", "code,name\nUA,United\n")
    _write(root / "mlp.yaml", "project: flights\n")
    _write(root / ".gitignore", "/.mlp/\nmlflow.db\nmlartifacts\n")
    _write(root / "data/raw/other.bin", "x")
    _raw(root, "UA,1\nAA,2\nAA,3\nUA,NA\n")
    _commit(root)
    return root


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)  # it may be a link into the cache
    file.write_text(text, encoding="utf-8")


def _raw(root: Path, rows: str) -> None:
    _write(root / "data/raw/it's [1].csv", f"carrier,delay\n{rows}")
    with data.opened(root) as repo:
        repo.add(["data/raw"])


def _commit(root: Path) -> None:
    git.git(["add", "--all", "."], root)
    git.git(["commit", "--quiet", "--message=state"], root)


def _ran(root: Path) -> RunState:
    """What a run of the pipeline in its present state would record."""
    with data.opened(root) as repo:
        repo.reproduce()
    code, patch = git.code(root)
    made = Provenance(
        run_id="",
        started=0,
        command_line=(),
        directory=str(root),
        user="",
        targets=(),
        overrides=(),
        launches={},
        seed=None,
        image=None,
        code=code,
        machine=machine.machine(),
        environment=machine.environment(),
    )
    metrics = json.loads((root / "metrics.json").read_text())
    tags = {Tag.STAGE: "train", Tag.OUTCOME: "ran"}
    stage = RunRecord("s", "s", "train", "FINISHED", 0, 1, {}, metrics, tags)
    record = RunRecord("0" * 32, "m", "run", "FINISHED", 0, 1, {}, metrics, {}, (stage,))
    return contrast.state_of(record, made, data.stages(root), patch)


def _difference(root: Path, before: RunState, after: RunState) -> Difference:
    return comparing.difference(project.load(root), before, after)


def _change_everything(root: Path) -> None:
    _raw(root, "UA,1\nAA,2\nAA,7\nUA,NA\nB6,9\n")
    _write(root / "params.json", '{"lr": 0.25}')
    _write(root / "lookup.csv", "code,name\nUA,United\nAA,American\n")
    _commit(root)
    _write(root / "src/train.py", f"{TRAIN}# tuned\n")
    _write(root / "src/new.py", "x = 1\n")
    (root.parent / "elsewhere.txt").write_text("x")


def test_code_data_and_params_of_two_states_are_told_in_full(root: Path) -> None:
    before = _ran(root)
    _change_everything(root)
    after = _ran(root)
    shown = (git.git(["status", "--porcelain"], root), (root / "src/train.py").read_text())

    found = _difference(root, before, after)

    assert [(f.path, f.status, f.added, f.removed) for f in found.code.files] == [
        ("../elsewhere.txt", "added", 1, 0),
        ("params.json", "modified", 1, 1),
        ("src/new.py", "added", 1, 0),
        ("src/train.py", "modified", 1, 0),
    ]
    assert [(p.name, p.before, p.after, p.stages) for p in found.params] == [
        ("params.json:lr", 0.5, 0.25, ("train",))
    ]
    by_path = {change.path: change for change in found.data}
    raw = by_path["data/raw"].directory
    assert raw is not None and (raw.added, raw.changed, raw.unchanged) == (0, 1, 1)
    (entry,) = raw.entries
    assert entry.path == "it's [1].csv" and entry.table is not None
    assert (entry.table.added, entry.table.removed, entry.table.unchanged) == (2, 1, 3)
    lookup = by_path["lookup.csv"]  # not DVC's: its versions come out of git
    assert lookup.table is not None and lookup.table.added == 1
    assert (by_path["clean.csv"].made_by, by_path["data/raw"].versioned_by) == (
        "prepare",
        "data/raw.dvc",
    )
    text = diff_text(found)
    assert "data/raw: 1 file changed of 2  (read by prepare)" in text
    assert "it's [1].csv: +2 rows, -1 row of 4" in text
    assert json.loads(json.dumps(asdict(found)))["data"]
    # Neither the index nor the work tree was touched.
    assert (git.git(["status", "--porcelain"], root), (root / "src/train.py").read_text()) == shown


def test_putting_back_what_is_blamed_brings_the_earlier_data_back(root: Path) -> None:
    before = _ran(root)
    _change_everything(root)
    after = _ran(root)
    found = blame.explain(_difference(root, before, after), before, after)
    assert [(cause.kind, cause.name) for cause in found.causes] == [
        ("data", "lookup.csv"),
        ("data", "data/raw"),
        ("code", "code of train"),
        ("param", "params.json:lr"),
        ("undeclared code", "files that no stage declares and code may import"),
    ]
    assert "5 things changed at once" in why_text(found)
    trial = found.causes[1].trial.removesuffix(" && mlp run")
    subprocess.run(trial, shell=True, cwd=root, check=True)
    assert "AA,3" in (root / "data/raw/it's [1].csv").read_text()


def test_a_version_that_is_not_in_the_cache_is_said_with_the_way_to_get_it(root: Path) -> None:
    before = _ran(root)
    _change_everything(root)
    after = _ran(root)
    shutil.rmtree(root / ".dvc/cache")
    found = {change.path: change for change in _difference(root, before, after).data}
    assert "dvc fetch --all-commits data/raw" in found["data/raw"].note
    assert "the version before and after" in found["clean.csv"].note
    assert found["lookup.csv"].table is not None


def test_a_commit_that_this_clone_lacks_is_said_and_the_rest_is_compared(root: Path) -> None:
    before = _ran(root)
    _change_everything(root)
    after = _ran(root)
    assert after.provenance is not None
    lost = asdict(after.provenance.code) | {"commit": "f" * 40}
    after = contrast.state_of(
        after.record,
        Provenance(**{**_fields(after.provenance), "code": type(after.provenance.code)(**lost)}),
        after.stages,
        after.patch,
    )
    found = _difference(root, before, after)
    assert any("is not in this clone" in note for note in found.code.notes)
    assert "src/train.py" in {file.path for file in found.code.files}
    assert found.params and found.data


def _fields(made: Provenance) -> dict[str, object]:
    return {name: getattr(made, name) for name in Provenance.__dataclass_fields__}


def test_without_git_what_dvc_saw_is_compared(
    root: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tmp_path_factory.mktemp("bare") / "p"
    shutil.copytree(root, bare)
    (bare / ".dvc/config").write_text("[core]\n    no_scm = True\n")
    monkeypatch.chdir(bare)
    before = _ran(bare)
    _write(bare / "src/train.py", f"{TRAIN}# tuned\n")
    _raw(bare, "UA,5\n")
    after = _ran(bare)
    found = _difference(bare, before, after)
    assert [(f.path, f.status) for f in found.code.files] == [("src/train.py", "differs")]
    assert {"data/raw", "clean.csv"} <= {change.path for change in found.data}


def test_recorded_runs_are_compared_by_their_references(root: Path) -> None:
    loaded = project.load(root)
    ids = []
    for lr in (0.5, 0.25):
        _write(root / "params.json", f'{{"lr": {lr}}}')
        result = running.execute(loaded, RunRequest(), lambda _: None)
        ids.append(result.run_id)
        assert syncing.sync(loaded).left == []
    found = comparing.why(loaded, ids[0][:10], "last", "f1")
    assert found.metric is not None
    assert (found.metric.before, found.metric.after) == (1.0, 0.5)
    assert [cause.name for cause in found.causes] == ["params.json:lr"]
    assert comparing.diff(loaded, ids[1], ids[1]).params == ()
