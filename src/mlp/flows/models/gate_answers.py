"""Finding out what the gates before a promotion ask, and their verdicts."""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mlp.adapters.base import folder_digests, lock, model_requirements
from mlp.adapters.tracking import model_trial, registry
from mlp.adapters.tracking.model_trial import Tried
from mlp.core.digests import changes, combined
from mlp.core.errors import ConfigurationError, MlpError, UserCodeError
from mlp.core.models import gates as judged
from mlp.core.models.gates import Gate, Scores, VersionOrigin
from mlp.core.models.ledger import LedgerEntry
from mlp.core.models.model_section import Evaluation, Primary
from mlp.core.models.model_version import ModelVersion, VersionTag, recorded_digest, registration
from mlp.core.runs.recorded_run import FINISHED
from mlp.flows.models import origin
from mlp.flows.models.opened_model import Opened
from mlp.flows.models.origin import ModelOrigin
from mlp.flows.models.registering import described


@dataclass
class Examination:
    """One version and its champion, looked at by each gate in turn."""

    model: Opened
    candidate: ModelVersion
    champion: ModelVersion | None
    entries: Sequence[LedgerEntry]
    folders: dict[str, Path] = field(default_factory=dict)
    tried: Tried | None = None  # what the candidate answered

    def files(self) -> Gate:
        """The files are those that were registered."""
        found = folder_digests.files(self.folders[self.candidate.version])
        evidence = registration(self.entries, self.candidate.version)
        recorded = recorded_digest(self.entries, self.candidate.version, self.candidate.tags)
        differ = changes(evidence.get("files", {}), found) if "files" in evidence else []
        return judged.files(recorded, combined(found), differ)

    def provenance(self) -> Gate:
        """Code and data are known."""
        evidence = registration(self.entries, self.candidate.version)
        gate = judged.provenance(
            VersionOrigin(
                evidence.get("commit"),
                bool(evidence.get("dirty")),
                bool(evidence.get("patch")),
                evidence.get("status", FINISHED),
                evidence.get("data", {}),
            )
        )
        return self._unless_elsewhere(gate)

    def signature(self) -> Gate:
        """Compatible with the champion's."""
        ours = judged.signature_of(described(self.folders[self.candidate.version]))
        theirs = None
        if self.champion is not None:
            theirs = judged.signature_of(described(self.folders[self.champion.version]))
        return judged.signature(ours, theirs, alone=self.champion is None)

    def prediction(self) -> Gate:
        """It answers its stored example in a process of its own."""
        started = time.monotonic()
        folder = self.folders[self.candidate.version]
        try:
            python, which = _python(self.model, folder)
            self.tried = model_trial.attempt(python, folder, **self._table())
        except MlpError as e:
            return judged.prediction(
                False,
                _in_short(e),
                e.fix or "log the model with all it needs: pip_requirements, code_paths",
            )
        seconds = time.monotonic() - started
        return judged.prediction(True, f"it answers its example in {seconds:.1f} s, {which}")

    def metrics(self) -> Gate:
        """The bounds of model.gates.metrics."""
        bounds = self.model.project.model.gates.metrics
        if not bounds:
            return judged.metrics(bounds, {})
        made = self._made()
        gate = judged.metrics(bounds, self._metrics(self.candidate, made))
        return gate if made is not None else self._unless_elsewhere(gate)

    def not_worse(self) -> Gate:
        """Not worse than the champion by the primary metric."""
        section = self.model.project.model
        if self.champion is None or section.primary is None:
            scores = None if self.champion is None else Scores()
            return judged.champion(section.primary, section.gates.max_drop, scores)
        try:
            if section.gates.evaluation is not None:
                scores = self._evaluated(section.gates.evaluation, section.primary)
            else:
                scores = self._recorded(section.primary)
        except MlpError as e:
            scores = Scores(why_not=_in_short(e), fix=e.fix)
        return judged.champion(section.primary, section.gates.max_drop, scores)

    def _made(self) -> ModelOrigin | None:
        """The run that the candidate comes from, None where it cannot be found."""
        run = self._run(self.candidate)
        try:
            return origin.find(self.model.project, run) if run else None
        except MlpError:
            return None

    def _run(self, version: ModelVersion) -> str | None:
        """The run of a version: the ledger's, for anybody may change a tag."""
        evidence = registration(self.entries, version.version)
        return evidence.get("run_id") or version.tags.get(VersionTag.RUN_ID) or version.run_id

    def _metrics(self, version: ModelVersion, made: ModelOrigin | None) -> dict[str, float]:
        """What the run had recorded when the version was registered, and has recorded since."""
        evidence = registration(self.entries, version.version)
        known = {name: float(value) for name, value in evidence.get("metrics", {}).items()}
        return {**(made.metrics if made else {}), **known}

    def _unless_elsewhere(self, gate: Gate) -> Gate:
        """The verdict; of a version that mlp registered with another ledger, that this is why."""
        version = self.candidate
        known = registration(self.entries, version.version)
        if gate.passed or known or VersionTag.DIGEST not in version.tags:
            return gate
        made = self._made()
        here = f"mlp models register {made.run.run_id} writes it down here; or " if made else ""
        return replace(
            gate,
            detail="the ledger in `state` does not know its registration:"
            " by its tags mlp registered it with another one",
            fix=f"{here}let `state` in mlp.yaml be the one with which it was registered",
        )

    def _evaluated(self, table: Evaluation, primary: Primary) -> Scores:
        """Both score the table of mlp.yaml, each in a process of its own."""
        from mlp.core.models.scores import compare

        assert self.champion is not None
        path = self.model.project.root / table.data
        if not path.is_file():
            raise ConfigurationError(
                f"{table.data}, by which versions are compared, is not there",
                fix="dvc pull; or correct model.gates.evaluation in mlp.yaml",
            )
        answers = [self._answers(version) for version in (self.champion, self.candidate)]
        champion, candidate = compare(primary.metric, *answers)
        where = f"on {table.data} ({len(answers[0].labels)} rows)"
        return Scores(candidate, champion, where)

    def _answers(self, version: ModelVersion) -> Tried:
        """What a version answers to the table; the candidate may have done so already."""
        tried = self.tried if version == self.candidate else None
        if tried is None:
            folder = self.folders[version.version]
            python, _ = _python(self.model, folder)
            tried = model_trial.attempt(python, folder, example=False, **self._table())
        if tried.failed:
            raise UserCodeError(
                f"version {version.version} cannot score the table: {tried.failed}",
                fix="correct model.gates.evaluation in mlp.yaml, or the model",
            )
        return tried

    def _table(self) -> dict[str, Any]:
        """The table by which both are compared, where there is one and a champion."""
        section = self.model.project.model
        table = section.gates.evaluation
        path = self.model.project.root / table.data if table else None
        if table is None or path is None or self.champion is None or not path.is_file():
            return {}
        columns = {"prediction": section.prediction, "probability": section.probability}
        return {"table": path, "target": table.target, **columns}

    def _recorded(self, primary: Primary) -> Scores:
        """What the runs recorded, where they recorded it of the same data."""
        assert self.champion is not None
        table = (
            "name a table by which both are compared in mlp.yaml:"
            " model.gates.evaluation: {data: test.csv, target: COLUMN}"
        )
        found, values = [], []
        for version in (self.candidate, self.champion):
            run = self._run(version)
            made = origin.find(self.model.project, run) if run else None
            metrics = self._metrics(version, made)
            if made is None or primary.metric not in metrics:
                why = f"the run of version {version.version} has not recorded {primary.metric}"
                return Scores(why_not=why, fix=f"{judged.EVALUATE}; or {table}")
            found.append(made)
            values.append(metrics[primary.metric])
        data = [made.evaluated(primary.metric) for made in found]
        if not data[0] or None in data[0].values() or data[0] != data[1]:
            return Scores(why_not="their runs did not evaluate the same data", fix=table)
        return Scores(values[0], values[1], "in their runs, on the same data")


def examine(
    model: Opened,
    candidate: ModelVersion,
    champion: ModelVersion | None,
    entries: Sequence[LedgerEntry],
    names: Iterable[str],
    accepted: Sequence[str],
    progress: Callable[[str], None],
) -> tuple[Gate, ...]:
    """The verdicts of the gates of these names, in that order; `progress` gets a line for each.

    Nothing is loaded that is not what was registered, unless it is `accepted` that `files` did not
    pass: without that no other gate is asked, and none of them passes. Gates that start processes
    are not asked where another one refuses already.
    """
    seen = Examination(model, candidate, champion, entries)
    ask = {
        judged.FILES: seen.files,
        judged.PROVENANCE: seen.provenance,
        judged.SIGNATURE: seen.signature,
        judged.PREDICTION: seen.prediction,
        judged.METRICS: seen.metrics,
        judged.CHAMPION: seen.not_worse,
    }
    with ExitStack() as stack:
        for version in (candidate, champion):
            if version is not None:
                held = registry.files(model.uri, model.name, version.version)
                seen.folders[version.version] = stack.enter_context(held)
        found: list[Gate] = []
        refused: list[str] = []
        for name in names:
            if judged.FILES in refused or (refused and name in judged.EXPENSIVE):
                found.append(judged.not_asked(name, refused))
                continue
            progress(f"gate {name} …")
            gate = ask[name]()
            found.append(gate)
            if not gate.passed and name not in accepted:
                refused.append(name)
        return tuple(found)


def _in_short(error: MlpError) -> str:
    """One line; of the model's own failure the message has all of it, the rest is a traceback."""
    return error.message if isinstance(error, UserCodeError) else error.one_line()


def _python(model: Opened, folder: Path) -> tuple[Path, str]:
    """An interpreter that has the model's own requirements, and which one that is in words."""
    import sys

    import yaml

    file = folder / "requirements.txt"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    wanted = folder / "python_env.yaml"
    described = yaml.safe_load(wanted.read_text(encoding="utf-8")) if wanted.is_file() else {}
    version = str((described or {}).get("python", ""))
    if model_requirements.same_python(version) and not model_requirements.lacking(text):
        return Path(sys.executable), "with this Python, which has its requirements"
    limits = folder / "constraints.txt"
    told = text + (limits.read_text(encoding="utf-8") if limits.is_file() else "")
    place = model.environments() / model_requirements.key(told, version)
    with lock.held(place.with_suffix(".lock"), wait=True):
        python = model_requirements.make(place, file, version)
    return python, "in an environment made of its requirements"
