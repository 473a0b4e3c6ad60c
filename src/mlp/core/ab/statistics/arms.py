"""From the log of predictions to two arms that may be compared."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlp.core.ab.exposure import Period
from mlp.core.ab.statistics.assignment import Split
from mlp.core.ab.statistics.estimates import CHALLENGER, CHAMPION
from mlp.core.ab.statistics.guards import Requests
from mlp.core.ab.statistics.labelled_rows import LabelledRows
from mlp.core.ab.statistics.metrics import Metric
from mlp.core.ab.traffic import Traffic

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Log:
    """What was predicted, one entry per row; all arrays of one length.

    `route` is on whose behalf a version was asked: champion, challenger or shadow. `key` is the
    user's, None where there is none. `label` is None where none is known, `prediction` where the
    answer held none. `failed`: the version asked did not answer this request itself.
    """

    time: Array  # seconds since the epoch
    version: Array
    route: Array
    request: Array
    row: Array
    key: Array
    prediction: Array
    probability: Array | None  # (n, classes), NaN where there is none
    label: Array
    latency_ms: Array
    failed: Array


@dataclass(frozen=True, slots=True)
class ArmSide:
    """How much an arm has."""

    requests: int
    rows: int
    users: int


@dataclass(frozen=True, slots=True)
class Arms:
    """The comparable part of a log."""

    log: Log
    arm: Array
    user: Array
    users: int
    weight: Array
    requests: Requests
    splits: Sequence[Split]
    strayed: int

    def side(self, arm: int) -> ArmSide:
        """What the arm has in all."""
        mine = self.arm == arm
        users = np.count_nonzero(np.bincount(self.user[mine], minlength=1))
        requests = np.count_nonzero(self.requests.arm == arm)
        return ArmSide(int(requests), int(np.count_nonzero(mine)), int(users))

    def labelled(self, metric: Metric) -> LabelledRows:
        """The rows that `metric` can be computed from: labelled, and predicted if it needs that.

        Users are numbered anew: those who are left.
        """
        kept = self.has_label()
        if not metric.served:
            kept &= np.array([not _missing(value) for value in self.log.prediction], bool)
        known = self.log.probability if metric.scored else None
        if known is not None:
            kept &= np.isfinite(known).all(1)
        user, users = numbered(self.user[kept])
        return LabelledRows(
            self.arm[kept],
            user,
            users,
            self.weight[kept],
            self.log.label[kept],
            self.log.prediction[kept],
            None if known is None else known[kept],
        )

    def has_label(self) -> Array:
        """Whether each row has a label."""
        return np.array([not _missing(label) for label in self.log.label], bool)


def assemble(log: Log, periods: Sequence[Period], now: Traffic, settle: float) -> Arms:
    """The arms, from the rows of `periods` (in order, see `exposure.comparable`).

    The arm is who was to answer, not who did (intention to treat): a request meant for the
    challenger that the champion answered in its stead counts for the challenger, as failed if the
    log says so, and with the prediction that was sent. The first `settle` seconds of a period are
    left out, in which servers may not know of it yet, and the time until the challenger is there
    and answers for the first time. Where the share changed, a row weighs the other arm's share at
    its time: so both arms speak of the same mixture of times, and no period counts for more than
    it tells ("overlap weights", Li, Morgan and Zaslavsky, JASA 113, 2018). In shadow the same rows
    are compared: those that both versions have predicted.
    """
    other = "shadow" if now.shadow else "challenger"
    version = log.version.astype(str)
    from_champion = version == str(now.champion)
    from_challenger = version == str(now.challenger)
    asked = log.time[(log.route == other) & from_challenger]
    which = _periods_of(log.time, periods, settle, asked)
    code, count = numbered(zip(log.request, log.row, strict=True))
    of_other, of_champion = log.route == other, log.route == "champion"
    if not now.shadow:  # also where the fallback was noted under the champion's name
        of_other |= of_champion & (np.bincount(code[of_other], minlength=count) > 0)[code]
    arm = np.where(of_other, CHALLENGER, np.where(of_champion, CHAMPION, -1))
    expected = np.where(arm == CHALLENGER, from_challenger, from_champion)
    instead = (arm == CHALLENGER) & from_champion & (not now.shadow)
    kept = (which >= 0) & (arm >= 0) & (expected | instead)
    if now.shadow:
        kept &= _in_both(code, count, arm, kept)
    chosen, latency, failed = _merged(log, code * 2 + arm, kept)
    log = _taken(log, chosen, latency, failed)
    return _arms(log, arm[chosen], which[chosen], periods, now)


def _arms(log: Log, arm: Array, which: Array, periods: Sequence[Period], now: Traffic) -> Arms:
    user, users = numbered(
        ("r", request) if _missing(key) else ("k", key)
        for key, request in zip(log.key, log.request, strict=True)
    )
    share = np.array([period.traffic.share for period in periods] or [0.0])[which]
    weight = np.where(arm == CHALLENGER, 1 - share, share)
    if now.shadow:
        weight = np.ones(len(arm))
    splits, strayed = ([], 0) if now.shadow else _splits(log.time, arm, user, which, periods)
    requests = _requests(log, arm, user, users, weight)
    return Arms(log, arm, user, users, weight, requests, splits, strayed)


def numbered(values: Any) -> tuple[Array, int]:
    """Each value's number, from 0 in the order of appearance, and how many there are."""
    table: dict[Any, int] = {}
    codes = [table.setdefault(value, len(table)) for value in values]
    return np.array(codes, dtype=np.int64), len(table)


def _periods_of(time: Array, periods: Sequence[Period], settle: float, asked: Array) -> Array:
    """The position of each row's period; -1 for none. `asked`: when the challenger was."""
    which = np.full(len(time), -1)
    for position, period in enumerate(periods):
        end = np.inf if period.end is None else period.end
        first = asked[(asked >= period.start) & (asked < end)]
        start = max(period.start + settle, first.min() if len(first) else np.inf)
        which[(time >= start) & (time < end)] = position
    return which


def _in_both(code: Array, count: int, arm: Array, kept: Array) -> Array:
    """Whether both versions have predicted the row of that request."""
    both = np.ones(count, bool)
    for one in (CHAMPION, CHALLENGER):
        both &= np.bincount(code[kept & (arm == one)], minlength=count) > 0
    return np.asarray(both[code])


def _merged(log: Log, cell: Array, kept: Array) -> tuple[Array, Array, Array]:
    """One entry for each row of a request in an arm: its position, latency and failure.

    A challenger's failure and the champion's answer in its stead are two entries of the log. The
    one with a prediction is taken, the longer latency, and it has failed if one of them did.
    """
    found = np.flatnonzero(kept)
    empty = np.array([_missing(value) for value in log.prediction[found]], bool)
    order = found[np.lexsort((empty, cell[found]))]
    _, first, group = np.unique(cell[order], return_index=True, return_inverse=True)
    latency = np.full(len(first), -np.inf)
    np.maximum.at(latency, group, log.latency_ms[order].astype(float))
    failed = np.bincount(group, log.failed[order].astype(bool), len(first)) > 0
    chosen = order[first]
    by_time = np.argsort(chosen)
    return chosen[by_time], latency[by_time], failed[by_time]


def _splits(
    time: Array, arm: Array, user: Array, which: Array, periods: Sequence[Period]
) -> tuple[list[Split], int]:
    """New users by period, and how many were in both arms within one."""
    order = np.argsort(time, kind="stable")
    _, first = np.unique(user[order], return_index=True)
    new = order[first]
    splits = []
    for position, period in enumerate(periods):
        mine = new[which[new] == position]
        challenger = int(np.count_nonzero(arm[mine] == CHALLENGER))
        splits.append(Split(period.traffic.share, len(mine), challenger))
    cells = np.unique(np.stack([user, which, arm], -1), axis=0)[:, :2]
    _, arms_in = np.unique(cells, axis=0, return_counts=True)
    return splits, int(np.count_nonzero(arms_in > 1))


def _requests(log: Log, arm: Array, user: Array, users: int, weight: Array) -> Requests:
    """The first row of each request in each arm."""
    code, _ = numbered(log.request)
    _, first = np.unique(code * 2 + arm, return_index=True)
    return Requests(
        arm[first],
        user[first],
        users,
        weight[first],
        log.latency_ms[first].astype(float),
        log.failed[first].astype(float),
    )


def _taken(log: Log, chosen: Array, latency: Array, failed: Array) -> Log:
    return Log(
        log.time[chosen],
        log.version[chosen],
        log.route[chosen],
        log.request[chosen],
        log.row[chosen],
        log.key[chosen],
        log.prediction[chosen],
        None if log.probability is None else log.probability[chosen],
        log.label[chosen],
        latency,
        failed,
    )


def _missing(value: Any) -> bool:
    return value is None or value != value  # a NaN differs from itself
