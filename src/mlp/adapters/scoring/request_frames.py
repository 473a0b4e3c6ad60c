"""The data that MLflow's server makes of a JSON request, made faster, for the usual requests.

Whatever is not usual (another type, a missing or doubled column, a number that is rounded) gives
None, and then the request is MLflow's to read.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from numpy import ndarray
    from pandas import DataFrame

# From here on not every integer is a double, and orjson has some integers as floats.
_ROUNDED = 2.0**53
_INT32 = 2**31
_SCALARS = {str, int, float, bool, type(None)}
# Types of JSON values by MLflow's type of the column: those which MLflow takes as they are.
TAKEN: dict[str, set[type]] = {
    "double": {float, int, type(None)},
    "float": {float, int, type(None)},
    "long": {int},
    "integer": {int},
    "boolean": {bool},
    "string": {str},
}
_DTYPES = {
    "double": "float64",
    "float": "float32",
    "long": "int64",
    "integer": "int32",
    "boolean": "bool",
    "string": "object",
}
# In these formats MLflow makes scalars of numpy's first, of which frames forget the smaller types.
_BY_VALUE = {"inputs", "instances"}
_SURVIVING = {"double", "long"}


class RequestRows(NamedTuple):
    """The values of the signature's columns, row by row, and the rows' labels if they are given."""

    names: tuple[str, ...]
    values: list[Sequence[Any]]
    labels: list[int] | None


class Columns:
    """Reads requests to a model whose signature has named columns of plain types.

    `types` are MLflow's by column, in the signature's order.
    """

    def __init__(self, types: dict[str, str], optional: frozenset[str] = frozenset()) -> None:
        self.types = types
        self.required = types.keys() - optional
        self.by_value = set(types.values()) <= _SURVIVING
        self._pick = lru_cache(maxsize=64)(self._picked)

    def rows(self, document: dict[str, Any]) -> RequestRows | None:
        """The rows of a request, their types not looked at yet."""
        if len(document) != 1:
            return None
        ((name, data),) = document.items()
        if name == "dataframe_split":
            return self._split(data) if type(data) is dict else None
        if name == "dataframe_records" or (name in _BY_VALUE and self.by_value):
            return self._records(data, extras=name in _BY_VALUE)
        return None

    def _split(self, data: dict[str, Any]) -> RequestRows | None:
        columns, values, index = data.get("columns"), data.get("data"), data.get("index")
        if type(columns) is not list or type(values) is not list or not values:
            return None
        if len(data) - (index is not None or "index" in data) != 2 or set(map(type, columns)) != {
            str
        }:
            return None
        if index is not None and not (
            type(index) is list and len(index) == len(values) and set(map(type, index)) == {int}
        ):
            return None
        if set(map(type, values)) != {list} or set(map(len, values)) != {len(columns)}:
            return None
        picked = self._pick(tuple(columns))
        if picked is None:
            return None
        names, pick = picked
        return RequestRows(names, values if pick is None else list(map(pick, values)), index)

    def _records(self, records: Any, *, extras: bool) -> RequestRows | None:
        if type(records) is not list or not records or set(map(type, records)) != {dict}:
            return None
        columns = tuple(records[0])
        picked = self._pick(columns)
        if picked is None or set(map(len, records)) != {len(columns)}:
            return None
        names, _ = picked
        if extras and len(names) != len(columns):
            others = itemgetter(
                *(column for column in columns if column not in self.types), names[0]
            )
            if not set(map(type, chain.from_iterable(map(others, records)))) <= _SCALARS:
                return None
        pick = itemgetter(*names) if len(names) > 1 else lambda record: (record[names[0]],)
        try:
            return RequestRows(names, list(map(pick, records)), None)
        except KeyError:  # not all have the same columns
            return None

    def _picked(
        self, columns: tuple[str, ...]
    ) -> tuple[tuple[str, ...], Callable[[Any], Any] | None] | None:
        """The signature's columns among these, and what picks them from a row; None: all as is."""
        if len(set(columns)) != len(columns) or not self.required <= set(columns):
            return None
        names = tuple(name for name in self.types if name in columns)
        if names == columns:
            return names, None
        at = [columns.index(name) for name in names]
        if len(at) == 1:
            return names, lambda row: (row[at[0]],)
        return (names, itemgetter(*at)) if at else None


class Matrices:
    """Makes matrices as scikit-learn makes them of the frames that MLflow makes of requests."""

    def __init__(self, columns: Columns) -> None:
        kinds = set(columns.types.values())
        self.columns = columns
        self.whole = kinds <= {"long", "integer"}
        self.mixed = len(kinds) > 1
        self.dtype = "float64" if kinds != {"float"} else "float32"
        if self.whole:
            self.dtype = "int32" if kinds == {"integer"} else "int64"
        # With others, a float would have to be rounded to its own precision first.
        self.possible = kinds <= {"double", "long", "integer"} or kinds == {"float"}

    def make(self, rows: RequestRows) -> "ndarray[Any, Any] | None":
        """The matrix, None where a value is not of its column's type."""
        import numpy

        if len(rows.names) != len(self.columns.types):
            return None
        found = set(map(type, chain.from_iterable(rows.values)))
        if not found <= ({int} if self.whole else TAKEN["double"]):
            return None
        if self.mixed and not _typed(self.columns, rows):
            return None
        if self.whole:
            matrix = numpy.array(rows.values, dtype=numpy.int64, order="F")
            if self.dtype == "int32" and not _small(matrix):
                return None
            return matrix.astype(self.dtype, copy=False)
        matrix = numpy.array(rows.values, dtype=numpy.float64, order="F")
        if (numpy.abs(matrix) >= _ROUNDED).any():
            return None
        return matrix.astype(self.dtype, copy=False)


def frame(columns: Columns, rows: RequestRows) -> "DataFrame | None":
    """The frame that MLflow hands to the model; None where a value is not of its column's type."""
    import numpy
    import pandas

    if not _typed(columns, rows):
        return None
    made: dict[str, Any] = {}
    for name, values in zip(rows.names, zip(*rows.values, strict=True), strict=True):
        kind = columns.types[name]
        if kind in ("double", "float"):
            array = numpy.array(values, dtype=numpy.float64)
            if (numpy.abs(array) >= _ROUNDED).any():
                return None
        elif kind in ("long", "integer"):
            array = numpy.array(values, dtype=numpy.int64)
            if kind == "integer" and not _small(array):
                return None
        else:
            array = numpy.array(values, dtype=_DTYPES[kind])
        made[name] = array.astype(_DTYPES[kind], copy=False)
    index = None if rows.labels is None else pandas.Index(rows.labels)
    return pandas.DataFrame(made, index=index)


def tensor(
    document: dict[str, Any], shape: tuple[int, ...], dtype: Any
) -> "ndarray[Any, Any] | None":
    """The array of a request to a model whose signature is one tensor without a name."""
    import numpy

    if len(document) != 1:
        return None
    ((name, data),) = document.items()
    if name not in _BY_VALUE or type(data) is not list or not data or type(data[0]) is dict:
        return None
    # The same call as MLflow's; only integers that orjson has as floats would be another matter.
    array = numpy.array(data, dtype=dtype if dtype.kind == "f" else None)
    if array.dtype != dtype or array.ndim != len(shape):
        return None
    fits = all(wanted in (-1, found) for wanted, found in zip(shape, array.shape, strict=True))
    return array if fits else None


def _typed(columns: Columns, rows: RequestRows) -> bool:
    """Whether each value is of a type that its column takes as it is."""
    by_column = zip(rows.names, zip(*rows.values, strict=True), strict=True)
    return all(set(map(type, values)) <= TAKEN[columns.types[name]] for name, values in by_column)


def _small(array: "ndarray[Any, Any]") -> bool:
    return bool(array.min() >= -_INT32 and array.max() < _INT32)
