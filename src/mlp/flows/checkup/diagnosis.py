"""Looks at everything that a run needs, and says what to do where something is wrong."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlp.adapters import data
from mlp.core.checkup.health import Check, CheckVerdict
from mlp.core.config import Config
from mlp.core.errors import ConfigurationError, MlpError, from_os_error
from mlp.core.layout import Layout
from mlp.core.nearest import did_you_mean
from mlp.core.runs.pipeline import launch_names
from mlp.flows import project
from mlp.flows.checkup import machine_checks, target_checks
from mlp.flows.checkup.probing import Probe
from mlp.flows.project import Project
from mlp.flows.runs import recording, tracking_stores


@dataclass(frozen=True, slots=True)
class Report:
    """All checks, in the order in which one would fix things."""

    checks: Sequence[Check]
    target: str | None = None

    @property
    def next(self) -> Sequence[str]:
        """What to type where there is no problem."""
        if not self.healthy:
            return ()
        return ("mlp run" if self.target is None else f"mlp train --target {self.target}",)

    @property
    def healthy(self) -> bool:
        """Whether there is no problem. What cannot be known is none."""
        return all(check.verdict != CheckVerdict.PROBLEM for check in self.checks)


def examine(
    start: Path,
    env: str | None = None,
    settings: Sequence[str] = (),
    target: str | None = None,
) -> Report:
    """Check the project around `start`, this machine, and `target` of mlp.yaml if it is named.

    Nothing is changed but for a small Job on the target, which is removed. Raises UsageError for a
    target that is not in mlp.yaml, and nothing else.
    """
    loaded, mistakes = _project(start, env, settings)
    if loaded and target is not None:
        loaded.target(target)
    root = loaded.root if loaded else _root(start)
    launches = loaded.config.launch if loaded else {}
    several = any(x.strategy == "ddp" or x.several for x in launches.values())
    probes = [  # they answer while the rest is looked at
        Probe.remote(root) if data.root(root) else None,
        Probe.store(root, loaded.tracking_uri) if loaded else _unasked("mlflow", mistakes),
        Probe.torchrun() if several and machine_checks.installed("torch") else None,
    ]
    checks = [
        machine_checks.python(),
        *machine_checks.training(required=several),
        *machine_checks.repository(root),
        *mistakes,
        *_pipeline(root, loaded.config if loaded else None),
        machine_checks.disk(root),
        machine_checks.state(Layout(root)),
        *([_undelivered(loaded.layout), *tracking_stores.checks(loaded, target)] if loaded else []),
    ]
    for probe in probes:
        checks += probe.result() if isinstance(probe, Probe) else [probe] if probe else []
    return Report((*checks, *_target(loaded, target, mistakes)), target)


def _target(loaded: Project | None, name: str | None, mistakes: Sequence[Check]) -> list[Check]:
    if name is None:
        return []
    if loaded is None:
        return [_unasked("cluster", mistakes)]
    most = target_checks.most_nodes(loaded, name)
    return target_checks.check(loaded, name, most, deep=True)


def _project(
    start: Path, env: str | None, settings: Sequence[str]
) -> tuple[Project | None, list[Check]]:
    try:
        loaded = project.load(start, env=env, settings=settings)
    except (ConfigurationError, OSError) as e:
        return None, [_problem("mlp.yaml", e)]
    return loaded, [Check("mlp.yaml", CheckVerdict.OK, f"project {loaded.config.project!r}")]


def _root(start: Path) -> Path:
    """Where the project is, as far as that can be told without a good mlp.yaml."""
    start = start.absolute()
    marked = (f for f in (start, *start.parents) if Layout(f).config.is_file())
    return next(marked, None) or data.root(start) or start


def _unasked(name: str, reasons: Sequence[Check]) -> Check:
    return Check(name, CheckVerdict.UNKNOWN, f"not asked: {reasons[0].name} has to be right first")


def _pipeline(root: Path, config: Config | None) -> Iterator[Check]:
    if data.root(root) is None:
        yield Check(
            "pipeline", CheckVerdict.PROBLEM, "there is no DVC project here", fix="dvc init"
        )
        return
    lacking: MlpError | None = None
    try:
        with data.opened(root):  # DVC's files are read once for both
            names = [stage.name for stage in data.stages(root)]
            lacking = _lacking(root) if names else None
    except (MlpError, OSError) as e:
        yield _problem("pipeline", e)
        return
    if not names:
        yield Check(
            "pipeline",
            CheckVerdict.PROBLEM,
            "dvc.yaml has no stage" if (root / "dvc.yaml").exists() else "there is no dvc.yaml",
            fix="dvc stage add -n NAME -d INPUT -o OUTPUT COMMAND",
        )
        return
    count = "1 stage" if len(names) == 1 else f"{len(names)} stages"
    yield Check("pipeline", CheckVerdict.OK, f"dvc.yaml and dvc.lock are right: {count}")
    if lacking is not None:
        yield _problem("data", lacking)
    if config is not None and config.launch:
        yield _launches(config, names)


def _lacking(root: Path) -> MlpError | None:
    """What is said of data that no stage makes and that is not here, as in a clone before `dvc
    pull`."""
    try:
        data.count(root, ())
    except MlpError as e:
        return e
    return None


def _launches(config: Config, names: Sequence[str]) -> Check:
    known = launch_names(names)
    strange = [name for name in config.launch if name not in known]
    if not strange:
        return Check("launch", CheckVerdict.OK, "every stage under `launch` is in dvc.yaml")
    hints = [f"{name!r} is not a stage of dvc.yaml{did_you_mean(name, known)}" for name in strange]
    return Check(
        "launch",
        CheckVerdict.PROBLEM,
        "; ".join(hints),
        fix="correct the names under `launch` in mlp.yaml",
    )


def _undelivered(layout: Layout) -> Check:
    left = recording.undelivered(layout)
    refused = recording.refused(layout)
    if not left and refused:
        return Check(
            "record",
            CheckVerdict.NOTE,
            f"MLflow has every run, but refused parts of {', '.join(run[:8] for run in refused)}",
            fix=f"mlp runs show {next(iter(refused))[:8]} lists them",
            cause="\n".join(lines[0].partition("\n")[0] for lines in refused.values()),
        )
    if not left:
        return Check("record", CheckVerdict.OK, "MLflow has every run")
    runs = "1 run is" if len(left) == 1 else f"{len(left)} runs are"
    reasons = {recording.delivery(layout.run(path.name)).reason for path in left} - {""}
    return Check(
        "record",
        CheckVerdict.NOTE,
        f"{runs} not in MLflow yet; nothing is lost",
        fix="mlp runs sync",
        cause="\n".join(sorted(reasons)),
    )


def _problem(name: str, error: MlpError | OSError) -> Check:
    known = from_os_error(error) if isinstance(error, OSError) else error
    return Check(name, CheckVerdict.PROBLEM, known.message, known.fix, known.cause)
