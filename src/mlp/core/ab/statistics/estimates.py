"""An estimate for each arm with the covariance of both, clustered by user.

Every metric here is a smooth function g of sums S over rows, or has an influence function. With X_u
the sums of user u, the delta method gives g(S) the variance sum_u (grad g(S) . X_u)^2, because g
does not change when all sums are multiplied by one number (Deng, Knoblich and Lu, "Applying the
Delta Method in Metric Analytics", KDD 2018; Liang and Zeger 1986 for clusters). A user who was
answered by both arms, because the share changed, makes their estimates correlated; the covariance
knows it. All functions work along the last axes, so that a simulation passes many experiments.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlp.core.ab.statistics import fixed_horizon

Array = NDArray[Any]
Function = Callable[[Array], Array]  # sums (..., k) -> value (...)

CHAMPION, CHALLENGER = 0, 1
_STEP = 1e-20


@dataclass(frozen=True, slots=True)
class Pair:
    """The estimates `value` (..., 2) of champion and challenger, and `covariance` (..., 2, 2).

    `users` (..., 2) is how many independent units each rests on.
    """

    value: Array
    covariance: Array
    users: Array

    def contrast(self, ratio: float = 1.0) -> tuple[Array, Array]:
        """challenger - ratio * champion, and its variance."""
        c = self.covariance
        difference = self.value[..., CHALLENGER] - ratio * self.value[..., CHAMPION]
        variance = (
            c[..., CHALLENGER, CHALLENGER]
            - 2 * ratio * c[..., CHAMPION, CHALLENGER]
            + ratio**2 * c[..., CHAMPION, CHAMPION]
        )
        return difference, np.maximum(variance, 0.0)

    def variances(self) -> Array:
        """The variance of each arm's estimate, (..., 2)."""
        return np.diagonal(self.covariance, axis1=-2, axis2=-1)

    def freedom(self, ratio: float = 1.0) -> Array:
        """Welch and Satterthwaite's degrees of freedom of the contrast."""
        weights = np.array([ratio**2, 1.0])
        return np.asarray(fixed_horizon.freedom(self.variances() * weights, self.users))

    def variance_at(self, users: int, ratio: float = 1.0) -> Array:
        """The contrast's variance if each arm had so many users: what a test is planned for."""
        each = self.variances() * self.users / users
        return each[..., CHALLENGER] + ratio**2 * each[..., CHAMPION]


def from_sums(
    function: Function, sums: Array, products: Array, users: Array, active: Array | None
) -> Pair:
    """The estimates g(S) of both arms.

    `sums` (..., 2, k): S of each arm. `products` (..., 2, k, 2, k): sum over users of the outer
    products of their sums in both arms. `users` (..., 2): how many each arm has. `active` for a
    metric within [0, 1]: the users that its denominator counts; see `unseen`.
    """
    gradient = _gradient(function, sums)
    with np.errstate(divide="ignore", invalid="ignore"):
        gradient = gradient * np.sqrt(users / (users - 1.0))[..., None]
    covariance = np.einsum("...ai,...aibj,...bj->...ab", gradient, products, gradient)
    return unseen(Pair(function(sums), covariance, users), active)


def from_influence(value: Array, influence: Array, users: Array, active: Array | None) -> Pair:
    """The same from what each user (the last axis) adds to the error of each arm (the one before).

    `influence` (..., 2, users) is zero for users whom an arm has not seen.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = influence * np.sqrt(users / (users - 1.0))[..., None]
    return unseen(Pair(value, scaled @ np.swapaxes(scaled, -1, -2), users), active)


def unseen(pair: Pair, active: Array | None) -> Pair:
    """With the variance of one more user, who would turn out the other way, added to each arm.

    For a metric within [0, 1] this is (1 / active users)^2. Without it an arm of 1,000 that has not
    yet failed once would be taken to be without any spread; it is to a variance what Agresti and
    Caffo's added counts (American Statistician 54, 2000) are to a proportion's.
    """
    if active is None:
        return pair
    covariance = pair.covariance.copy()
    with np.errstate(divide="ignore"):  # infinite where nothing counts yet
        covariance[..., [0, 1], [0, 1]] += 1.0 / np.asarray(active, float) ** 2
    return Pair(pair.value, covariance, pair.users)


def clustered(rows: Array, arm: Array, user: Array, users: int) -> Array:
    """The sums of each user in each arm, (users, 2, k); `rows` (n, k), `arm` and `user` (n,)."""
    cell = user * 2 + arm
    columns = [np.bincount(cell, column, 2 * users) for column in rows.T]
    return np.stack(columns, axis=-1).reshape(users, 2, rows.shape[1])


def _gradient(function: Function, sums: Array) -> Array:
    """Complex-step derivatives: exact to the last bits, for functions without abs or max.

    Squire and Trapp, SIAM Review 40 (1998).
    """
    k = sums.shape[-1]
    stepped = sums[..., None, :] + 1j * _STEP * np.eye(k)
    return np.asarray(function(stepped).imag / _STEP)
