"""The gates before a promotion: what each asks, as pure functions of what was found out."""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from mlp.core.errors import UsageError
from mlp.core.models.model_section import ALL_GATES, Bound, Primary
from mlp.core.nearest import did_you_mean
from mlp.core.runs.recorded_run import FINISHED, RUNNING

FILES, PROVENANCE, SIGNATURE = "files", "provenance", "signature"
PREDICTION, METRICS, CHAMPION = "prediction", "metrics", "champion"
# Those that start processes are asked only where the others let the version through.
EXPENSIVE = (PREDICTION, CHAMPION)
# The fix where a run stopped before the stage that measures the model.
EVALUATE = "`mlp run` evaluates the model, and `mlp models register` adds what it measured"


@dataclass(frozen=True, slots=True)
class Gate:
    """One verdict. `accepted`: it did not pass, and somebody lets that be. `asked`: False where
    another gate had refused before."""

    name: str
    passed: bool
    detail: str
    fix: str = ""
    accepted: bool = False
    asked: bool = True

    @property
    def opens(self) -> bool:
        """Whether a promotion may go on."""
        return self.passed or self.accepted


@dataclass(frozen=True, slots=True)
class Signature:
    """What a model takes and gives: MLflow's columns or tensors, as they lie in MLmodel."""

    inputs: Sequence[Mapping[str, Any]] = ()
    outputs: Sequence[Mapping[str, Any]] = ()
    params: Sequence[Mapping[str, Any]] = ()


def check_names(names: Sequence[str]) -> None:
    """Raise UsageError for a name that is not a gate's."""
    for name in names:
        if name not in ALL_GATES:
            near = did_you_mean(name, ALL_GATES)
            raise UsageError(f"there is no gate {name!r} (have: {', '.join(ALL_GATES)}){near}")


def accept(gates: Sequence[Gate], names: Sequence[str]) -> tuple[Gate, ...]:
    """The gates with those of `names` that did not pass accepted."""
    return tuple(
        replace(gate, accepted=True) if gate.name in names and not gate.passed else gate
        for gate in gates
    )


def signature_of(description: Mapping[str, Any]) -> Signature | None:
    """The signature in MLmodel, None where it has none."""
    written = description.get("signature")
    if not isinstance(written, Mapping) or not written.get("inputs"):
        return None
    parts = {key: json.loads(written.get(key) or "[]") for key in ("inputs", "outputs", "params")}
    return Signature(**parts)


def not_asked(name: str, refused: Sequence[str]) -> Gate:
    """Of a gate that is asked only where those named in `refused` let the version through."""
    return Gate(name, False, f"not asked: {' and '.join(refused)} did not pass", asked=False)


def files(recorded: str | None, found: str, changes: Sequence[str]) -> Gate:
    """The files are those that were registered."""
    if recorded is None:
        return Gate(
            FILES,
            False,
            "no digest of its files was recorded: it was not registered by mlp",
            "mlp models register RUN makes a version that has one",
        )
    if recorded != found:
        return Gate(
            FILES,
            False,
            "its files are not those that were registered"
            + (f" ({'; '.join(changes[:5])})" if changes else ""),
            "put the original files back, or register the run again: mlp models register RUN",
        )
    return Gate(FILES, True, f"every file is as registered ({found[:19]})")


@dataclass(frozen=True, slots=True)
class VersionOrigin:
    """What is known of a version's making. `data`: path -> DVC's hash."""

    commit: str | None = None
    dirty: bool = False
    patch: bool = False  # the uncommitted changes are kept with the run
    status: str = FINISHED  # of the run that was registered, in MLflow's word
    data: Mapping[str, str | None] = field(default_factory=dict)
    run_id: str = ""  # of the pipeline run that logged the model


def provenance(made: VersionOrigin) -> Gate:
    """Its run ended well, and its code and data are known."""
    problems = []
    if made.status != FINISHED:
        ended = "had not ended" if made.status == RUNNING else f"ended as {made.status}"
        problems.append(f"its run {ended}")
    if not made.commit:
        problems.append("its commit is not known")
    if made.dirty and not made.patch:
        problems.append("its code had changes that were not recorded")
    unknown = sorted(path for path, digest in made.data.items() if not digest)
    if not made.data:
        problems.append("its data is not known")
    if unknown:
        problems.append(f"these have no hash: {', '.join(unknown[:5])}")
    if problems:
        return Gate(
            PROVENANCE,
            False,
            "; ".join(problems),
            "train it by `mlp run`, to its end, in a git repository with the data as `deps` of the"
            " stage, and register that run",
        )
    apart = ", with its recorded changes" if made.dirty else ""
    return Gate(
        PROVENANCE, True, f"commit {(made.commit or '')[:8]}{apart}, {len(made.data)} data hashes"
    )


def signature(candidate: Signature | None, champion: Signature | None, alone: bool) -> Gate:
    """Whoever calls the champion can call the candidate: no other inputs, the same outputs."""
    if candidate is None:
        return Gate(
            SIGNATURE,
            False,
            "it has no signature",
            "log it with an example: mlp.log_model(model, example)",
        )
    if alone:
        return Gate(SIGNATURE, True, "there is no champion to be compatible with")
    if champion is None:
        return Gate(SIGNATURE, True, "the champion has no signature to be compatible with")
    problems = _inputs(candidate, champion) + _outputs(candidate, champion)
    problems += _params(candidate, champion)
    if problems:
        return Gate(
            SIGNATURE,
            False,
            "; ".join(problems[:5]),
            f"change the callers first, and then: {_accept(SIGNATURE)}",
        )
    return Gate(SIGNATURE, True, "it takes what the champion takes and gives what it gives")


def _inputs(candidate: Signature, champion: Signature) -> list[str]:
    theirs = {_name(item, i): item for i, item in enumerate(champion.inputs)}
    problems = []
    for i, item in enumerate(candidate.inputs):
        name = _name(item, i)
        if name not in theirs:
            if item.get("required", True):
                problems.append(f"it needs the input {name}, which the champion does not take")
        elif not _takes(item, theirs[name]):
            problems.append(
                f"its input {name} is {_kind(item)}, and the champion's {_kind(theirs[name])}"
            )
        elif item.get("required", True) and not theirs[name].get("required", True):
            problems.append(f"it needs the input {name}, which callers may leave out now")
    return problems


def _outputs(candidate: Signature, champion: Signature) -> list[str]:
    if not champion.outputs:
        return []
    ours, theirs = _answers(candidate.outputs), _answers(champion.outputs)
    if ours == theirs:
        return []
    return [f"it gives {', '.join(ours) or 'nothing known'}, and the champion {', '.join(theirs)}"]


def _answers(outputs: Sequence[Mapping[str, Any]]) -> list[str]:
    """What callers see. Several have names in an answer, and then no order; one has no name."""
    if len(outputs) > 1 and all(item.get("name") for item in outputs):
        return sorted(f"{item['name']}: {_kind(item)}" for item in outputs)
    return [_kind(item) for item in outputs]


def _params(candidate: Signature, champion: Signature) -> list[str]:
    ours = {item["name"]: item for item in candidate.params}
    return [
        f"it does not take the param {item['name']} as the champion does"
        for item in champion.params
        if any(ours.get(item["name"], {}).get(key) != item.get(key) for key in ("type", "shape"))
    ]


def _name(item: Mapping[str, Any], position: int) -> str:
    return str(item.get("name") or f"number {position + 1}")


def _kind(item: Mapping[str, Any]) -> str:
    if "tensor-spec" in item:
        spec = item["tensor-spec"]
        return f"{spec['dtype']}{list(spec['shape'])}".replace(" ", "")
    nested = {k: v for k, v in item.items() if k not in ("name", "required")}
    return str(item["type"]) if set(nested) == {"type"} else json.dumps(nested, sort_keys=True)


# What MLflow converts without loss where it enforces a signature.
_WIDER = {("double", "float"), ("double", "integer"), ("long", "integer")}


def _takes(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Whether what is valid for `theirs` is valid for `ours`."""
    if "tensor-spec" in ours and "tensor-spec" in theirs:
        a, b = ours["tensor-spec"], theirs["tensor-spec"]
        shapes = len(a["shape"]) == len(b["shape"]) and all(
            x in (-1, y) for x, y in zip(a["shape"], b["shape"], strict=True)
        )
        return bool(a["dtype"] == b["dtype"] and shapes)
    mine, other = _kind(ours), _kind(theirs)
    return mine == other or (mine, other) in _WIDER


def prediction(answered: bool, detail: str, fix: str = "") -> Gate:
    """It answers its stored example in a process of its own, with its own requirements."""
    return Gate(PREDICTION, answered, detail, "" if answered else fix)


def metrics(bounds: Mapping[str, Bound], found: Mapping[str, float]) -> Gate:
    """The metrics of its run keep the bounds of model.gates.metrics."""
    problems = []
    for name, bound in bounds.items():
        value = found.get(name)
        if value is None:
            problems.append(f"{name} is not recorded")
        elif bound.min is not None and not value >= bound.min:
            problems.append(f"{name} is {value:.6g}, below {bound.min:.6g}")
        elif bound.max is not None and not value <= bound.max:
            problems.append(f"{name} is {value:.6g}, above {bound.max:.6g}")
    if problems:
        fix = "train a better one, or change the bounds of model.gates.metrics in mlp.yaml"
        if bounds.keys() - found.keys():
            have = ", ".join(sorted(found)) or "none"
            fix = f"{EVALUATE}; or correct model.gates.metrics in mlp.yaml (recorded: {have})"
        return Gate(METRICS, False, "; ".join(problems), fix)
    kept = ", ".join(f"{name} {found[name]:.6g}" for name in bounds)
    return Gate(METRICS, True, kept or "model.gates.metrics asks for nothing")


@dataclass(frozen=True, slots=True)
class Scores:
    """The primary metric of both. `where` says on what; `why_not` why it cannot be compared."""

    candidate: float | None = None
    champion: float | None = None
    where: str = ""
    why_not: str = ""
    fix: str = ""


def champion(primary: Primary | None, max_drop: float, scores: Scores | None) -> Gate:
    """The primary metric is not worse than the champion's; `scores` None where there is none."""
    if scores is None:
        return Gate(CHAMPION, True, "there is no champion to be worse than")
    if primary is None:
        return _cannot(
            "mlp.yaml names no primary metric",
            "add model.primary: {metric: NAME, goal: maximize}, or minimize",
        )
    if scores.why_not or scores.candidate is None or scores.champion is None:
        return _cannot(scores.why_not or "a value is missing", scores.fix)
    if math.isnan(scores.champion):
        return _cannot(
            f"its {primary.metric} is not a number",
            f"fix how it is measured; or {_accept(CHAMPION)}",
        )
    drop = _drop(primary.goal, scores.candidate, scores.champion)
    both = f"{primary.metric} {scores.candidate:.6g}, the champion's {scores.champion:.6g}"
    said = f"{both} {scores.where}".rstrip()
    if drop <= max_drop + _rounding(scores.candidate, scores.champion):
        return Gate(CHAMPION, True, said)
    return Gate(
        CHAMPION,
        False,
        f"worse by {drop:.6g} (model.gates.max_drop is {max_drop:.6g}): {said}",
        f"train a better one; or {_accept(CHAMPION)}",
    )


def _drop(goal: Literal["maximize", "minimize"], candidate: float, champion: float) -> float:
    """By how much the candidate is worse; NaN, which is never little enough, where that is NaN."""
    if candidate == champion:
        return 0.0  # two infinities too
    return champion - candidate if goal == "maximize" else candidate - champion


def _rounding(one: float, other: float) -> float:
    """By how much a difference may be off: 0.9 - 0.89 is more than 0.01."""
    largest = max(abs(one), abs(other))
    return 4 * sys.float_info.epsilon * largest if math.isfinite(largest) else 0.0


def _accept(gate: str) -> str:
    """In full: the gates stand before `mlp deploy promote` too, which has no such option."""
    return f"mlp models promote VERSION --accept {gate} --reason WHY"


def _cannot(why: str, fix: str) -> Gate:
    return Gate(CHAMPION, False, f"cannot be compared with the champion: {why}", fix)
