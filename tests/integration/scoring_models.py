"""Models of every kind that the scoring protocol tells apart, in MLflow's format, and requests."""

import asyncio
import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import httpx
import mlflow
import numpy as np
import pandas as pd
from mlflow.models import ModelSignature, infer_signature
from mlflow.pyfunc import PyFuncModel, PythonModel, scoring_server
from mlflow.types.schema import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

JSON = "application/json"
CSV = "text/csv"
Body = tuple[bytes, str | None]

cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Shop(PythonModel):
    """Text, dates, a switch and a column that may be missing; a frame comes back."""

    def predict(self, context: Any, model_input: pd.DataFrame) -> pd.DataFrame:
        frame = model_input
        return pd.DataFrame(
            {
                "city": frame["city"].str.upper(),
                "day": frame["at"].dt.date,
                "at": frame["at"],
                "price": frame["price"] * (2.0 if "rebate" not in frame else 1.0),
                "open": frame["open"],
            }
        )


class Words(PythonModel):
    """Text, numbers and switches only; a list comes back."""

    def predict(self, context: Any, model_input: pd.DataFrame) -> list[Any]:
        return [
            [*map(str, model_input.dtypes), list(map(str, model_input.index)), *map(repr, row)]
            for row in model_input.itertuples()
        ]


class Scaled(PythonModel):
    """Has parameters; a dictionary comes back."""

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        factor = (params or {}).get("factor", 1.0)
        return {"scaled": (model_input["x"] * factor).to_numpy(), "params": params}


class Sparse(PythonModel):
    """Series with missing values."""

    def predict(self, context: Any, model_input: pd.DataFrame) -> pd.Series:
        return model_input["x"].where(model_input["x"] > 0)


class Raising(PythonModel):
    """Raises on negative numbers, and returns what is not JSON for zero."""

    def predict(self, context: Any, model_input: pd.DataFrame) -> Any:
        x = model_input["x"]
        if (x < 0).any():
            raise ValueError("negative")
        return {object()} if (x == 0).any() else x.to_numpy()


class Chat(PythonModel):
    """Takes whatever comes."""

    def predict(
        self, context: Any, model_input: Any, params: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        return {"said": str(model_input), "params": params}


class Hinted(PythonModel):
    """Its signature is its type hint."""

    def predict(self, model_input: list[str]) -> list[str]:
        return [text.upper() for text in model_input]


def table(rows: int = 40) -> tuple[pd.DataFrame, np.ndarray]:
    """Three columns of numbers and what is to be learnt from them."""
    random = np.random.default_rng(7)
    frame = pd.DataFrame(random.normal(size=(rows, 3)), columns=["a", "b", "c"])
    return frame, (frame["a"] - frame["b"] * 0.5 > 0).to_numpy().astype(int)


def _sklearn(model: Any, x: Any, **more: Any) -> Callable[[Path], None]:
    def save(path: Path) -> None:
        more.setdefault("signature", infer_signature(x, model.predict(x)))
        quiet = {"pip_requirements": ["scikit-learn"], "serialization_format": "cloudpickle"}
        mlflow.sklearn.save_model(model, str(path), **quiet, **more)

    return save


def _pyfunc(model: PythonModel, *columns: ColSpec, **more: Any) -> Callable[[Path], None]:
    def save(path: Path) -> None:
        if columns:
            params = more.pop("params", None)
            more["signature"] = ModelSignature(Schema(list(columns)), params=params)
        mlflow.pyfunc.save_model(str(path), python_model=model, pip_requirements=["mlflow"], **more)

    return save


def _torch(width: int, signature: ModelSignature) -> Callable[[Path], None]:
    def save(path: Path) -> None:
        import torch

        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(width, 4), torch.nn.Tanh())
        mlflow.pytorch.save_model(
            model,
            str(path),
            signature=signature,
            pip_requirements=["torch"],
            serialization_format="pickle",
        )

    return save


def makers() -> dict[str, Callable[[Path], None]]:
    """How each model is saved."""
    frame, y = table()
    x = frame.to_numpy()
    mixed = frame.assign(b=(frame["b"] * 10).astype(int))
    text = frame.assign(b=np.where(frame["b"] > 0, "up", "down"))
    named = [ColSpec(DataType.double, name) for name in "abc"]
    small = frame.astype("float32")
    columns = make_column_transformer((OneHotEncoder(), ["b"]), remainder="passthrough")
    labels = np.array(["no", "yes"])[y]
    logistic = LogisticRegression()
    floats = Schema([TensorSpec(np.dtype("float32"), (-1, 3))])
    factor = ParamSchema([ParamSpec("factor", DataType.double, 1.0)])
    return {
        "logistic": _sklearn(
            LogisticRegression().fit(frame, y), frame, input_example=frame.head(2)
        ),
        "labels": _sklearn(make_pipeline(StandardScaler(), logistic).fit(frame, labels), frame),
        "mixed": _sklearn(LinearRegression().fit(mixed, y), mixed),
        "small": _sklearn(LinearRegression().fit(small, y), small),
        "whole": _sklearn(
            RandomForestClassifier(5, random_state=0).fit((frame * 10).astype(int), y),
            (frame * 10).astype(int),
        ),
        "text": _sklearn(make_pipeline(columns, LogisticRegression()).fit(text, labels), text),
        "tensor": _sklearn(RandomForestRegressor(5, random_state=0).fit(x, x[:, 0]), x),
        "unsigned": _sklearn(LogisticRegression().fit(x, y), x, signature=None),
        "proba": _sklearn(
            LogisticRegression().fit(frame, y), frame, pyfunc_predict_fn="predict_proba"
        ),
        "torch": _torch(3, ModelSignature(floats)),
        "torch_columns": _torch(3, ModelSignature(Schema(named))),
        "shop": _pyfunc(
            Shop(),
            ColSpec(DataType.string, "city"),
            ColSpec(DataType.datetime, "at"),
            ColSpec(DataType.double, "price"),
            ColSpec(DataType.boolean, "open"),
            ColSpec(DataType.double, "rebate", required=False),
        ),
        "words": _pyfunc(
            Words(),
            ColSpec(DataType.string, "city"),
            ColSpec(DataType.double, "price"),
            ColSpec(DataType.float, "rate"),
            ColSpec(DataType.long, "count"),
            ColSpec(DataType.integer, "stock", required=False),
            ColSpec(DataType.boolean, "open"),
        ),
        "scaled": _pyfunc(Scaled(), ColSpec(DataType.double, "x"), params=factor),
        "sparse": _pyfunc(Sparse(), ColSpec(DataType.double, "x")),
        "raising": _pyfunc(Raising(), ColSpec(DataType.double, "x")),
        "chat": _pyfunc(Chat()),
        "hinted": _pyfunc(Hinted(), input_example=["a", "b"]),
    }


def make(folder: Path) -> dict[str, Path]:
    """All models, saved in a folder."""
    for name, save in makers().items():
        save(folder / name)
    return {path.name: path for path in folder.iterdir()}


# --- requests -------------------------------------------------------------------------------------


def body(document: Any, content_type: str | None = JSON) -> Body:
    """A request with this JSON."""
    return json.dumps(document).encode(), content_type


def _of_frame(frame: pd.DataFrame) -> dict[str, Body]:
    """Good requests with the same rows, in each format, with and without another column."""
    more = frame.assign(user=[f"u{i}" for i in range(len(frame))])
    backwards = frame[list(frame.columns)[::-1]]
    split = frame.to_dict(orient="split")
    return {
        "split": body({"dataframe_split": split}),
        "split without index": body(
            {"dataframe_split": {k: v for k, v in split.items() if k != "index"}}
        ),
        "split with null index": body({"dataframe_split": {**split, "index": None}}),
        "split with labels": body(
            {"dataframe_split": {**split, "index": list(range(7, 7 + len(frame)))}}
        ),
        "split with the same label": body(
            {"dataframe_split": {**split, "index": [1] * len(frame)}}
        ),
        "split with text labels": body(
            {"dataframe_split": {**split, "index": [f"r{i}" for i in range(len(frame))]}}
        ),
        "split, another column": body({"dataframe_split": more.to_dict(orient="split")}),
        "split, backwards": body({"dataframe_split": backwards.to_dict(orient="split")}),
        "records": body({"dataframe_records": frame.to_dict(orient="records")}),
        "records, another column": body({"dataframe_records": more.to_dict(orient="records")}),
        "records, backwards": body({"dataframe_records": backwards.to_dict(orient="records")}),
        "instances": body({"instances": frame.to_dict(orient="records")}),
        "instances, another column": body({"instances": more.to_dict(orient="records")}),
        "inputs": body({"inputs": frame.to_dict(orient="records")}),
        "inputs, another column": body({"inputs": more.to_dict(orient="records")}),
        "inputs by column": body({"inputs": frame.to_dict(orient="list")}),
        "one row as an object": body({"inputs": frame.head(1).to_dict(orient="records")[0]}),
        "a list of lists": body({"inputs": frame.to_numpy().tolist()}),
        "instances, a list of lists": body({"instances": frame.to_numpy().tolist()}),
        "csv": (frame.to_csv(index=False).encode(), CSV),
        "csv with charset": (frame.to_csv(index=False).encode(), "text/csv; charset=UTF-8"),
        "csv, another column": (more.to_csv(index=False).encode(), CSV),
        "parquet": (frame.to_parquet(), "application/vnd.apache.parquet"),
        "params": body({"dataframe_split": split, "params": {"factor": 3}}),
        "wrong params": body({"dataframe_split": split, "params": {"factor": "x", "y": 1}}),
        "params in a list": body({"dataframe_split": split, "params": [1]}),
        "params null": body({"dataframe_split": split, "params": None}),
        "an unknown key": body({"dataframe_split": split, "more": 1}),
        "charset": body({"dataframe_split": split}, "application/json; charset=utf-8"),
        "indented": (json.dumps({"dataframe_split": split}, indent=2).encode(), JSON),
        "with a byte order mark": (b"\xef\xbb\xbf" + body({"dataframe_split": split})[0], JSON),
        "in UTF-16": (json.dumps({"dataframe_split": split}).encode("utf-16"), JSON),
    }


def good(name: str) -> dict[str, Body]:
    """Requests that fit the model in one way or another."""
    frame, _ = table(3)
    frames = {
        "mixed": frame.assign(b=[1, -2, 3]),
        "small": frame.astype("float32"),
        "whole": (frame * 10).astype(int),
        "text": frame.assign(b=["up", "down", "up"]),
        "shop": pd.DataFrame(
            {
                "city": ["Bern", "Züri", 'a"b\\c'],
                "at": ["2024-01-02T03:04:05", "2024-02-29T00:00:00", "1999-12-31T23:59:59"],
                "price": [1.5, 1e-7, 1e12],
                "open": [True, False, True],
            }
        ),
        "words": pd.DataFrame(
            {
                "city": ["Bern", "Züri", "\u2028"],
                "price": [1.5, 2.0, 1e12],
                "rate": [0.1, 1e-40, 3.0],
                "count": [1, 2, -3],
                "stock": [1, 2, 3],
                "open": [True, False, True],
            }
        ),
    }
    if name in ("scaled", "sparse", "raising"):
        return _of_frame(pd.DataFrame({"x": [1.0, 2.5, 3.0]}))
    return _of_frame(frames.get(name, frame))


def values(name: str) -> dict[str, Body]:
    """Requests with unusual values in the place of a number, and with columns that do not fit."""
    column = "x" if name in ("scaled", "sparse", "raising") else "c"
    base: dict[str, str] = {"a": "0.5", "b": "-1.5", "c": "2.5"} if column == "c" else {"x": "1.5"}
    if name in ("mixed", "whole"):
        base["b"] = "2"
    if name == "text":
        base["b"] = '"up"'
    found: dict[str, Body] = {}
    for value in (
        "1", "0", "-0", "-0.0", "1e3", "1E-320", "1e400", "-1e400", "NaN", "Infinity", "null",
        "true", "false", '"1.5"', '"x"', '""', "[]", "[1]", "[1, 2]", "{}", '{"a": 1}',
        "9007199254740993", "9223372036854775807", "9223372036854775808",
        "-9223372036854775809", "18446744073709551616", "1" * 400, "1" * 5000, "3000000000",
        "0.1", "16777217", "1.7976931348623157e308", "3.5e38", '"\\ud800"', '"2024-01-01"',
    ):  # fmt: skip
        row = base | {column: value}
        keys, cells = json.dumps(list(row)), ", ".join(row.values())
        record = ", ".join(f'"{k}": {v}' for k, v in row.items())
        usual = ", ".join(f'"{k}": {v}' for k, v in base.items())
        short = value if len(value) < 30 else f"{len(value)} digits"
        texts = {
            "split": f'{{"dataframe_split": {{"columns": {keys}, "data": [[{cells}]]}}}}',
            "split after a usual row": f'{{"dataframe_split": {{"columns": {keys}, "data": '
            f"[[{', '.join(base.values())}], [{cells}]]}}}}",
            "records": f'{{"dataframe_records": [{{{record}}}]}}',
            "instances": f'{{"instances": [{{{record}}}, {{{usual}}}]}}',
            "inputs": f'{{"inputs": [{{{record}}}, {{{usual}}}]}}',
            "inputs by column": f'{{"inputs": {{{record}}}}}',
            "lists": f'{{"inputs": [[{cells}]]}}',
            "instances as lists": f'{{"instances": [[{cells}], [{", ".join(base.values())}]]}}',
        }
        found |= {f"{short}: {how}": (text.encode(), JSON) for how, text in texts.items()}
    return found


def bad() -> dict[str, Body]:
    """Requests that no model, or few, can answer."""
    columns, row = ["a", "b", "c"], [0.5, -1.5, 2.5]
    record = dict(zip(columns, row, strict=True))
    documents: dict[str, Any] = {
        "nothing": {},
        "a list": [1, 2],
        "a number": 3,
        "null": None,
        "text": "x",
        "two formats": {"inputs": [row], "instances": [row]},
        "all formats": {"inputs": 1, "instances": 1, "dataframe_split": 1, "dataframe_records": 1},
        "an old format": {"columns": columns, "data": [row]},
        "split is a list": {"dataframe_split": [row]},
        "split is null": {"dataframe_split": None},
        "split without data": {"dataframe_split": {"columns": columns}},
        "split with more": {"dataframe_split": {"columns": columns, "data": [row], "more": 1}},
        "split without columns": {"dataframe_split": {"data": [row]}},
        "no rows": {"dataframe_split": {"columns": columns, "data": []}},
        "an empty row": {"dataframe_split": {"columns": columns, "data": [[]]}},
        "a short row": {"dataframe_split": {"columns": columns, "data": [row, row[:2]]}},
        "a long row": {"dataframe_split": {"columns": columns, "data": [row, [*row, 1.0]]}},
        "a row is an object": {"dataframe_split": {"columns": columns, "data": [record]}},
        "a row is null": {"dataframe_split": {"columns": columns, "data": [row, None]}},
        "data is a number": {"dataframe_split": {"columns": columns, "data": 3}},
        "data is a row": {"dataframe_split": {"columns": columns, "data": row}},
        "short index": {"dataframe_split": {"columns": columns, "data": [row], "index": [1, 2]}},
        "index of lists": {"dataframe_split": {"columns": columns, "data": [row], "index": [[1]]}},
        "index is text": {"dataframe_split": {"columns": columns, "data": [row], "index": "0"}},
        "no column": {"dataframe_split": {"columns": [], "data": [row]}},
        "a column is missing": {"dataframe_split": {"columns": columns[:2], "data": [row[:2]]}},
        "a column twice": {"dataframe_split": {"columns": [*columns, "a"], "data": [[*row, 1.0]]}},
        "another twice": {
            "dataframe_split": {"columns": [*columns, "u", "u"], "data": [[*row, 1, 2]]}
        },
        "columns are numbers": {"dataframe_split": {"columns": [1, 2, 3], "data": [row]}},
        "columns are lists": {"dataframe_split": {"columns": [["a"], ["b"], ["c"]], "data": [row]}},
        "columns are objects": {"dataframe_split": {"columns": [{}, {}, {}], "data": [row]}},
        "columns are text": {"dataframe_split": {"columns": "abc", "data": [row]}},
        "records are an object": {"dataframe_records": record},
        "records are text": {"dataframe_records": "x"},
        "no records": {"dataframe_records": []},
        "an empty record": {"dataframe_records": [{}]},
        "records of numbers": {"dataframe_records": [1, 2]},
        "records of lists": {"dataframe_records": [row]},
        "a record misses a column": {"dataframe_records": [record, {"a": 1.0, "b": 1.0}]},
        "a record has more": {"dataframe_records": [record, {**record, "d": 1.0}]},
        "records in other orders": {"dataframe_records": [record, dict(reversed(record.items()))]},
        "a record is null": {"dataframe_records": [record, None]},
        "no instances": {"instances": []},
        "instances differ": {"instances": [record, {"a": 1.0}]},
        "instances have another": {"instances": [record, {"a": 1.0, "b": 1.0, "d": 1.0}]},
        "instances with a nested one": {"instances": [{**record, "u": [1, 2]}]},
        "instances mixed": {"instances": [record, row]},
        "instances with a signature": {"instances": [record], "signature_name": "x"},
        "no inputs": {"inputs": []},
        "inputs null": {"inputs": None},
        "inputs a number": {"inputs": 3.5},
        "inputs text": {"inputs": "text"},
        "inputs texts": {"inputs": ["a", "b"]},
        "inputs of columns of lengths": {"inputs": {"a": [1.0], "b": [1.0, 2.0], "c": [1.0]}},
        "inputs ragged": {"inputs": [row, row[:2]]},
        "inputs too deep": {"inputs": [[row]]},
        "inputs too shallow": {"inputs": row},
        "inputs whole numbers": {"inputs": [[1, 2, 3]]},
        "inputs with nested": {"inputs": [{**record, "u": {"v": 1}}]},
        "chat": {"messages": [{"role": "user", "content": "hi"}], "factor": 2.0},
        "prompt": {"prompt": "hi", "params": {"factor": 2.0}},
        "input": {"input": ["a", "b"]},
        "chat and inputs": {"messages": [], "inputs": [row]},
        "deep": {"inputs": json.loads("[" * 50 + "]" * 50)},
    }
    split = {"dataframe_split": {"columns": columns, "data": [row]}}
    text, _ = body(split)
    types = (
        None, "", "text/plain", "application/xml", "application/json;", "application/json; ",
        "application/json;charset=utf-8", "application/json; charset=UTF-8",
        "application/json; charset=latin-1", "application/json; charset=", "APPLICATION/JSON",
        "application/json; charset=utf-8; charset=utf-8", "application/json; x=1", "x; charset=y",
        " application/json", "application/json; charset", "text/csv; header=present", "json",
        "application/json; a=1; b=2", "application/vnd.apache.parquet", "multipart/form-data",
    )  # fmt: skip
    raw: dict[str, bytes] = {
        "no body": b"",
        "a space": b" ",
        "broken JSON": b'{"inputs": [',
        "a comma too many": b'{"inputs": [1,]}',
        "no UTF-8": b'{"inputs": "\xff\xfe"}',
        "a surrogate": b'{"inputs": "\xed\xa0\x80"}',
        "a control character": b'{"inputs": "a\tb"}',
        "a key twice": b'{"inputs": 1, "inputs": [[0.5, -1.5, 2.5]]}',
        "a record's key twice": b'{"dataframe_records": [{"a": 1, "b": 2, "c": 3, "a": 0.5}]}',
        "very deep": b'{"inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "much nothing": b'{"inputs": [[0.5, -1.5, 2.5]]}' + b"\0" * 10,
    }
    csv = {
        "csv, empty": b"",
        "csv, header": b"a,b,c\n",
        "csv, text": b"a,b,c\n1,x,2\n",
        "csv, missing": b"a,b,c\n1,,2\n",
        "csv, ragged": b"a,b,c\n1,2,3\n1,2,3,4,5\n",
        "csv, another": b"a,b\n1,2\n",
        "csv, no UTF-8": b"a,b,c\n\xff,2,3\n",
        "csv, whole": b"a,b,c\n1,2,3\n",
        "csv, quotes": b'a,b,c\n"1","2","3"\n',
        "csv, an open quote": b'a,b,c\n"1,2,3\n',
    }
    return (
        {name: body(document) for name, document in documents.items()}
        | {f"content type {kind!r}": (text, kind) for kind in types}
        | {name: (data, JSON) for name, data in raw.items()}
        | {name: (data, CSV) for name, data in csv.items()}
    )


# --- MLflow's answers -----------------------------------------------------------------------------


_FLOAT = re.compile(rb"-?\d+(?:\.\d+(?:e[+-]?\d+)?|e[+-]?\d+)", re.IGNORECASE)


def alike(one: bytes, other: bytes) -> bool:
    """Whether two bodies are the same, but for the last bits of their floats.

    Those differ by processor, by how many rows are computed at once, and by where they lie in
    memory.
    """
    if one == other:
        return True
    floats = [[float(number) for number in _FLOAT.findall(body)] for body in (one, other)]
    return _FLOAT.sub(b"#", one) == _FLOAT.sub(b"#", other) and all(
        math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-7) for a, b in zip(*floats, strict=True)
    )


@dataclass(frozen=True, eq=False)
class Reply:
    """Status, body and content type. Replies are equal where their bodies are alike."""

    status: int
    body: bytes
    content_type: str

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Reply)
            and (self.status, self.content_type) == (other.status, other.content_type)
            and alike(self.body, other.body)
        )

    def __repr__(self) -> str:
        return f"{self.status} {self.content_type} {self.body[:2000]!r}"


Ask = Callable[[bytes, str | None], Reply]


@contextmanager
def mlflow_app(model: PyFuncModel) -> Iterator[Ask]:
    """What MLflow's own server application answers, in this process."""
    transport = httpx.ASGITransport(scoring_server.init(model), raise_app_exceptions=False)
    client = httpx.AsyncClient(transport=transport, base_url="http://mlflow", timeout=60)
    loop = asyncio.new_event_loop()

    def ask(data: bytes, content_type: str | None) -> Reply:
        headers = {} if content_type is None else {"content-type": content_type}
        found = loop.run_until_complete(client.post("/invocations", content=data, headers=headers))
        return Reply(found.status_code, found.content, found.headers["content-type"])

    try:
        yield ask
    finally:
        loop.run_until_complete(client.aclose())
        loop.close()
