"""Why a metric differs between two runs: what changed and can reach it, the likeliest first."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlp.core.compare.contrast import patched_files
from mlp.core.compare.reach import Graph
from mlp.core.compare.run_comparison import (
    Change,
    DataChange,
    Difference,
    FileChange,
    MetricChange,
    RunSide,
    RunState,
)
from mlp.core.errors import UsageError
from mlp.core.nearest import did_you_mean

# What usually moves a metric, the likeliest first.
KINDS = (
    *("data", "code", "param", "seed", "launch", "ml packages", "python"),
    *("undeclared code", "packages", "machine"),
)
_ML = (
    *("torch", "torchvision", "torchaudio", "pytorch-lightning", "lightning", "deepspeed"),
    *(
        "triton",
        "tensorflow",
        "keras",
        "jax",
        "jaxlib",
        "flax",
        "optax",
        "transformers",
        "accelerate",
    ),
    *("scikit-learn", "xgboost", "lightgbm", "catboost", "statsmodels", "numpy", "scipy", "pandas"),
    *("polars", "pyarrow", "duckdb", "timm", "tokenizers", "datasets", "numba"),
)
_ML_FAMILIES = ("nvidia-", "torch-", "intel-", "mkl", "cuda")
_IMPORTABLE = (".py", ".pyx", ".pyi", ".so", ".ipynb", ".r", ".jl", ".sh")
# What their changes mean is told by itself, or nothing: launches, commands, ignored files.
_SETTINGS = ("mlp.yaml", "dvc.yaml", ".gitignore", ".dvcignore", ".mlpignore")
_FEW_FILES = 5


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing that changed. `stages` is the way from where it enters to the metric.

    `changes` are the details behind it; `trial` is a command that puts this one thing back, on top
    of the state of the second run, "" where there is none.
    """

    kind: str
    name: str
    stages: Sequence[str]
    changes: Sequence[Change | FileChange | DataChange]
    trial: str = ""


@dataclass(frozen=True, slots=True)
class Harmless:
    """Something that changed and cannot matter to the metric, with the reason."""

    kind: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class MetricExplanation:
    """What made `metric` differ. `verdict` is one of:

    no metric, equal, nothing changed, one thing changed, several things changed.
    """

    before: RunSide
    after: RunSide
    metric: MetricChange | None
    made_by: Sequence[str]
    metrics: Sequence[MetricChange]  # all that differ
    verdict: str
    causes: Sequence[Cause]
    harmless: Sequence[Harmless]
    # Stages on the way that made other outputs of the same recorded inputs.
    diverged: Sequence[str]
    seed: int | None  # of the second run
    notes: Sequence[str]


def explain(
    difference: Difference, before: RunState, after: RunState, metric: str | None = None
) -> MetricExplanation:
    """What made `metric` (the first that differs, by default) differ.

    Raises UsageError where the runs have no metric of that name in common.
    """
    chosen = _chosen(difference.metrics, metric)
    graph = Graph(before.stages, after.stages, chosen.stages if chosen else ())
    touched = [file.path for file in patched_files(b"", before.patch)]
    blamed = _Blame(difference, graph, touched)
    equal = chosen is not None and chosen.equal
    return MetricExplanation(
        before=difference.before,
        after=difference.after,
        metric=chosen,
        made_by=tuple(graph.goals),
        metrics=tuple(m for m in difference.metrics if not m.equal),
        verdict="no metric" if chosen is None else "equal" if equal else _verdict(blamed.causes),
        causes=tuple(blamed.causes),
        harmless=tuple(blamed.harmless),
        diverged=graph.diverged(),
        seed=after.provenance.seed if after.provenance else None,
        notes=(*difference.notes, *difference.code.notes),
    )


def _chosen(metrics: Sequence[MetricChange], name: str | None) -> MetricChange | None:
    common = [m for m in metrics if m.before is not None and m.after is not None]
    if name is not None:
        known = [m.name for m in common]
        if name not in known:
            have = ", ".join(known) or "none"
            raise UsageError(
                f"the runs have no metric {name!r} in common (have: {have})"
                f"{did_you_mean(name, known)}"
            )
        return common[known.index(name)]
    return next((m for m in common if not m.equal), common[0] if common else None)


def _verdict(causes: Sequence[Cause]) -> str:
    return (
        ("nothing changed", "one thing changed")[len(causes)]
        if len(causes) < 2
        else ("several things changed")
    )


class _Blame:
    """Sorts everything that differs into what can reach the metric and what cannot."""

    def __init__(self, difference: Difference, graph: Graph, touched: Sequence[str]) -> None:
        self.causes: list[Cause] = []
        self.harmless: list[Harmless] = []
        self._graph = graph
        self._before = difference.before
        self._touched = touched  # files that the first run had changed and not committed
        for change in difference.data:
            self._data(change)
        self._code(difference)
        self._params(difference)
        self._environment(difference)
        self.causes.sort(key=lambda cause: (KINDS.index(cause.kind), len(cause.stages)))

    def _place(
        self,
        kind: str,
        name: str,
        stages: Sequence[str],
        changes: Sequence[Any],
        trial: str = "",
    ) -> None:
        way, reason = self._graph.way(stages)
        if reason:
            self.harmless.append(Harmless(kind, name, reason))
        else:
            self.causes.append(Cause(kind, name, way, changes, trial))

    def _data(self, change: DataChange) -> None:
        if change.made_by is not None:
            return  # it follows from what its stage was given
        trial = ""
        if change.versioned_by and change.before is not None:
            trial = self._checkout([change.versioned_by])
            if trial and change.versioned_by.endswith(".dvc"):
                trial += f" && dvc checkout {shlex.quote(change.versioned_by)}"
        trial = f"{trial} && mlp run" if trial else ""
        if change.read_by:
            self._place("data", change.path, change.read_by, (change,), trial)
        else:
            self.harmless.append(Harmless("data", change.path, "no stage reads it"))

    def _code(self, difference: Difference) -> None:
        by_stages: dict[tuple[str, ...], list[FileChange]] = {}
        for file in difference.code.files:
            by_stages.setdefault(self._graph.readers(file.path), []).append(file)
        undeclared = by_stages.pop((), [])
        for stages, files in by_stages.items():
            name = f"code of {', '.join(stages)}"
            self._place("code", name, stages, tuple(files), self._restore(files))
        for command in difference.code.commands:
            what = "command" if None not in (command.before, command.after) else "stage"
            trial = "" if what == "stage" else self._then_run(["dvc.yaml"])
            self._place("code", f"{what} {command.name}", command.stages, (command,), trial)
        # DVC does not know them, but code can import them.
        importable = [f for f in undeclared if f.path.lower().endswith(_IMPORTABLE)]
        if importable:
            trial = self._restore(importable)
            self._place(
                "undeclared code",
                "files that no stage declares and code may import",
                (),
                importable,
                trial,
            )
        for file in undeclared:
            if file not in importable and file.path.rpartition("/")[2] not in _SETTINGS:
                self.harmless.append(Harmless("file", file.path, "no stage reads it"))

    def _params(self, difference: Difference) -> None:
        seeded = False
        for param in difference.params:
            is_seed = param.name.rpartition(":")[2].rpartition(".")[2] == "seed"
            seeded = seeded or is_seed
            kind = "seed" if is_seed else "param"
            if not param.stages and self._graph.known:
                self.harmless.append(Harmless(kind, param.name, "no stage reads it"))
                continue
            trial = ""
            if param.before is not None and ":" not in param.name:
                value = param.before if isinstance(param.before, str) else json.dumps(param.before)
                trial = f"mlp run --set {shlex.quote(f'{param.name}={value}')}"
            self._place(kind, param.name, param.stages, (param,), trial)
        for launch in difference.launches:
            self._place("launch", launch.name, launch.stages, (launch,))
        if difference.seed and not seeded:
            self._place("seed", "seed", (), (difference.seed,))

    def _environment(self, difference: Difference) -> None:
        environment = difference.environment
        ml = [c for c in environment.packages if _is_ml(c.name)]
        others = [c for c in environment.packages if not _is_ml(c.name)]
        python = [c for c in (environment.python, environment.image) if c]
        # Another name for the same hardware and system changes nothing.
        machine = [c for c in environment.machine if c.name != "host"]
        trial = f"mlp runs reproduce {self._before.run_id[:8]}"
        for kind, changes in (
            ("ml packages", ml),
            ("python", python),
            ("packages", others),
            ("machine", machine),
        ):
            if changes:
                name = ", ".join(c.name for c in changes[:3])
                name += f" and {len(changes) - 3} more" if len(changes) > 3 else ""
                self._place(kind, name, (), tuple(changes), trial)

    def _restore(self, files: Sequence[FileChange]) -> str:
        names = [f.path for f in files if f.status in ("modified", "deleted", "type changed")]
        return self._then_run(names) if names and len(names) == len(files) else ""

    def _then_run(self, files: Sequence[str]) -> str:
        checkout = self._checkout(files)
        return f"{checkout} && mlp run" if checkout else ""

    def _checkout(self, files: Sequence[str]) -> str:
        """Puts files back to the first run's commit; "" where that does not have its state."""
        side = self._before
        names = [file.rpartition("../")[2] for file in files]
        at_commit = not any(t == n or t.endswith(f"/{n}") for t in self._touched for n in names)
        if side.commit is None or not at_commit or len(files) > _FEW_FILES:
            return ""
        return f"git checkout {side.commit[:12]} -- {shlex.join(files)}"


def _is_ml(name: str) -> bool:
    return name in _ML or name.startswith(_ML_FAMILIES)
