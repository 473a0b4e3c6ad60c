"""scikit-learn models called with a matrix where MLflow calls them with a frame of the same values.

That saves most of the time of a small request, and gives the same bits: the matrix has the values,
the type and the memory layout that scikit-learn makes of the frame before it computes.
"""

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy import ndarray

    # Predictions, and probabilities if they are wanted and known.
    Predict = Callable[["ndarray[Any, Any]"], tuple[Any, Any]]

# Their models turn whatever they are given into a matrix first. Not among them is what looks at
# names or types of columns, and what calls other models or functions of the user's.
_NUMERIC = (
    "sklearn.decomposition",
    "sklearn.discriminant_analysis",
    "sklearn.dummy",
    "sklearn.ensemble._forest",
    "sklearn.ensemble._gb",
    "sklearn.ensemble._hist_gradient_boosting",
    "sklearn.ensemble._iforest",
    "sklearn.impute",
    "sklearn.linear_model",
    "sklearn.naive_bayes",
    "sklearn.neighbors",
    "sklearn.neural_network",
    "sklearn.preprocessing._data",
    "sklearn.svm",
    "sklearn.tree",
)
_FUNCTIONS = ("predict", "predict_proba", "predict_log_proba")


def matrix_model(
    estimator: Any, function: str, names: Sequence[str] | None, *, probabilities: bool
) -> "Predict | None":
    """How to call the estimator with a matrix, None where that is not known to be the same.

    `function` is the method that MLflow calls; `names` are those of the frame's columns, None where
    MLflow calls the estimator with a matrix as well.
    """
    import sklearn

    if function not in _FUNCTIONS or sklearn.get_config()["transform_output"] != "default":
        return None
    if names is not None:
        known = getattr(estimator, "feature_names_in_", None)
        if known is not None and list(known) != list(names):  # scikit-learn refuses these
            return None
    steps = _steps(estimator)
    if not all(_numeric(step) for step in steps):
        return None
    *transforms, final = [_nameless(step) for step in steps] if names is not None else steps
    call = _called(final, function, probabilities=probabilities)

    def predict(matrix: "ndarray[Any, Any]") -> tuple[Any, Any]:
        for transform in transforms:
            matrix = transform.transform(matrix)
        return call(matrix)

    return predict


def _called(final: Any, function: str, *, probabilities: bool) -> "Predict":
    """The call of a pipeline's last step, with probabilities if it has them."""
    from sklearn.ensemble._forest import ForestClassifier

    method = getattr(final, function)
    proba = getattr(final, "predict_proba", None) if function == "predict" else None
    if not probabilities or proba is None:
        return lambda matrix: (method(matrix), None)
    if type(final).predict is not ForestClassifier.predict:
        return lambda matrix: (method(matrix), proba(matrix))

    def forest(matrix: "ndarray[Any, Any]") -> tuple[Any, Any]:
        """Its predictions come from its probabilities, which take all the time: had once."""
        found = proba(matrix)
        knowing = object.__new__(type(final))
        vars(knowing).update(vars(final), predict_proba=lambda _: found)
        return knowing.predict(matrix), found

    return forest


def _steps(estimator: Any) -> list[Any]:
    """What a pipeline calls one after the other; the estimator itself if it is none."""
    from sklearn.pipeline import Pipeline

    if type(estimator) is not Pipeline:
        return [estimator]
    steps = [step for _, step in estimator.steps]
    return [step for step in steps[:-1] if step not in (None, "passthrough")] + steps[-1:]


def _numeric(step: Any) -> bool:
    """Whether it only sees numbers, and leaves those that it is given as they are."""
    if not type(step).__module__.startswith(_NUMERIC) or hasattr(step, "_sklearn_output_config"):
        return False
    if getattr(step, "is_categorical_", None) is not None:  # it goes by names
        return False
    settings = step.get_params(deep=False)
    nested = any(hasattr(value, "get_params") or callable(value) for value in settings.values())
    return not nested and settings.get("copy", True) is True


def _nameless(step: Any) -> Any:
    """The same without the columns' names, the lack of which it would warn of at every call.

    A linear classifier's decision is taken without the checks that hold for every matrix we make;
    what it predicts from it is up to its own methods.
    """
    import numpy
    from sklearn.linear_model._base import LinearClassifierMixin

    step = copy.copy(step)
    vars(step).pop("feature_names_in_", None)
    if (
        getattr(type(step), "decision_function", None)
        is not LinearClassifierMixin.decision_function
    ):
        return step
    checked = step.decision_function
    coefficients, intercept, width = step.coef_.T, step.intercept_, step.n_features_in_

    def decision(matrix: "ndarray[Any, Any]") -> Any:
        usual = matrix.dtype == numpy.float64 and matrix.shape[1] == width
        if not usual or not numpy.isfinite(matrix).all():
            return checked(matrix)
        scores = matrix @ coefficients + intercept
        return scores.reshape(-1) if scores.ndim > 1 and scores.shape[1] == 1 else scores

    if isinstance(step.coef_, numpy.ndarray):
        step.decision_function = decision
    return step
