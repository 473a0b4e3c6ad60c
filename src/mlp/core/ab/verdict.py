"""The verdict over a challenger: what was found, as plain data, and the outcome that follows."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

MIN_USERS = 30  # of each arm: with fewer, no limit theorem holds


class Outcome(StrEnum):
    """What the data say about the challenger."""

    BETTER = "better"
    WORSE = "worse"
    INCONCLUSIVE = "inconclusive"


class Because(StrEnum):
    """What decided the outcome."""

    TAKEN_OUT = "taken out"
    SAMPLE_RATIO = "sample ratio mismatch"
    GUARD = "guard"
    METRIC = "metric"
    SAMPLES = "too few samples"
    UNDEFINED = "undefined"
    NO_DIFFERENCE = "no difference yet"
    EQUIVALENT = "no difference that matters"


@dataclass(frozen=True, slots=True)
class Arm:
    """One version's side. `low` and `high` bound `value` at level 1 - alpha, for one look.

    `users` are keys, or requests where there are no keys; `labelled` are rows with a label.
    """

    version: str
    requests: int
    rows: int
    users: int
    labelled: int
    labelled_users: int
    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class SampleRatio:
    """The challenger's users against those expected; `suspect`: not the configured split.

    `p` is for one look, `p_sequential` for any number. `strayed` are users who were in both arms
    while the share did not change.
    """

    users: int
    observed: int
    expected: float
    p: float
    p_sequential: float
    strayed: int
    suspect: bool


@dataclass(frozen=True, slots=True)
class Inference:
    """challenger - champion with its interval at level 1 - alpha, and the p-value against 0."""

    difference: float | None
    low: float | None
    high: float | None
    p: float
    method: str


@dataclass(frozen=True, slots=True)
class GuardCheck:
    """A guard: what both arms have, what is allowed, and whether the data say it is exceeded.

    `state` is kept, broken, or not enough data. `p` is one-sided and valid at any look.
    """

    name: str
    champion: float | None
    challenger: float | None
    allowed: str
    p: float
    state: str


KEPT, BROKEN, UNKNOWN = "kept", "broken", "not enough data"


@dataclass(frozen=True, slots=True)
class Needs:
    """The labelled rows still to come in each arm; None: no number is enough or can be told.

    With that many, the sequential test finds `effect` with the wanted power. `basis` says whether
    the effect is the one stated in mlp.yaml or the difference seen.
    """

    champion: int | None
    challenger: int | None
    effect: float | None
    basis: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Everything that `mlp ab verdict` tells. `since` and `until` are seconds since the epoch."""

    model: str
    metric: str
    goal: str
    alpha: float
    effect: float | None
    min_samples: int
    mode: str  # split, or shadow
    since: float | None
    until: float | None
    share: float  # now
    champion: Arm
    challenger: Arm
    sample_ratio: SampleRatio | None
    sequential: Inference
    fixed: Inference
    guards: Sequence[GuardCheck]
    taken_out: str | None = None
    """Why the server took the challenger out, if it did."""
    outcome: Outcome = Outcome.INCONCLUSIVE
    because: Because = Because.UNDEFINED
    reason: str = ""
    needs: Needs | None = None
    notes: Sequence[str] = ()


def decide(found: Verdict) -> tuple[Outcome, Because, str]:
    """The outcome that the rest of a verdict leads to, what decided it, and a sentence.

    The first of these that applies:

    taken out; sample-ratio mismatch; a broken guard; too few samples; a metric or guard that is not
    defined; the sequential interval of the metric.
    """
    version = f"version {found.challenger.version}"
    if found.taken_out is not None:
        return (
            Outcome.WORSE,
            Because.TAKEN_OUT,
            f"{version} was taken out: {found.taken_out}",
        )
    ratio = found.sample_ratio
    if ratio is not None and ratio.suspect:
        return Outcome.INCONCLUSIVE, Because.SAMPLE_RATIO, _mismatch(ratio)
    broken = [guard for guard in found.guards if guard.state == BROKEN]
    if broken:
        words = "; ".join(
            f"{guard.name} is {_number(guard.challenger)}, champion {_number(guard.champion)}, "
            f"allowed {guard.allowed}"
            for guard in broken
        )
        return Outcome.WORSE, Because.GUARD, f"{version} breaks a guard: {words}"
    lacking = _lacking(found)
    if lacking:
        return Outcome.INCONCLUSIVE, Because.SAMPLES, lacking
    test = found.sequential
    if test.difference is None or test.low is None or test.high is None:
        words = f"{found.metric} is not defined on these labels for both versions"
        return Outcome.INCONCLUSIVE, Because.UNDEFINED, words
    unknown = [guard.name for guard in found.guards if guard.state == UNKNOWN]
    if unknown:
        words = f"not enough data for the guard {', '.join(unknown)}"
        return Outcome.INCONCLUSIVE, Because.UNDEFINED, words
    return _by_metric(found, test.difference, test.low, test.high)


def _by_metric(
    found: Verdict, difference: float, low: float, high: float
) -> tuple[Outcome, Because, str]:
    moved = f"{found.metric} differs by {difference:+.4g} ({low:+.4g} to {high:+.4g})"
    if low > 0 or high < 0 or (difference != 0 and low == high):
        better = (difference > 0) == (found.goal == "maximize")
        outcome = Outcome.BETTER if better else Outcome.WORSE
        words = f"version {found.challenger.version} is {outcome}: {moved}"
        return outcome, Because.METRIC, words
    if found.effect is not None and -found.effect < low and high < found.effect:
        words = f"{moved}: less than {found.effect:g} either way, which is said not to matter"
        return Outcome.INCONCLUSIVE, Because.EQUIVALENT, words
    words = f"{moved}: nothing is excluded yet"
    return Outcome.INCONCLUSIVE, Because.NO_DIFFERENCE, words


def _lacking(found: Verdict) -> str:
    """Which arm has too few labelled rows or users, in words; "" if none."""
    parts = []
    for name, arm in (("champion", found.champion), ("challenger", found.challenger)):
        if arm.labelled < found.min_samples:
            parts.append(f"{arm.labelled} of {found.min_samples} labelled rows of the {name}")
        elif arm.labelled_users < MIN_USERS:
            parts.append(f"{arm.labelled_users} of {MIN_USERS} users of the {name}")
    return "there are only " + " and ".join(parts) if parts else ""


def _mismatch(ratio: SampleRatio) -> str:
    if ratio.p_sequential < 0.001:
        return (
            f"{ratio.observed} users were in the challenger's arm where {ratio.expected:.1f} of "
            f"{ratio.users} are expected (p = {ratio.p_sequential:.2g}): something else than the "
            f"share decides, and no comparison can be trusted"
        )
    return (
        f"{ratio.strayed} of {ratio.users} users were in both arms while the share did not change: "
        f"the key does not decide, and no comparison can be trusted"
    )


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"
