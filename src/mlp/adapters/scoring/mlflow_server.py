"""MLflow's own scoring server, called where it would be called: what it answers is the protocol."""

import contextlib
import os
import re
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp.adapters.base import importing
from mlp.adapters.scoring.answers import TEXT, Refusal, ScoringAnswer
from mlp.core.runs.environment import QUIET
from mlp.core.serving.scoring_formats import CSV, JSON, PARQUET

if TYPE_CHECKING:
    from mlflow.pyfunc import PyFuncModel
    from pandas import DataFrame

# The keys by which MLflow tells requests in the style of language models.
UNIFIED = frozenset({"messages", "prompt", "input"})
_LARGE_EXPONENT = re.compile(r"[0-9.][eE][+-]?[0-9]{3}")
_MODEL_FAILED = "Encountered an unexpected error while evaluating the model."


def load(path: Path) -> "PyFuncModel":
    """The model in a directory, as `mlflow models serve` loads it."""
    for variable, value in QUIET.items():
        os.environ.setdefault(variable, value)
    importing.whole("mlflow.pyfunc.scoring_server")
    from mlflow.environment_variables import _MLFLOW_IS_IN_SERVING_ENVIRONMENT
    from mlflow.pyfunc import scoring_server

    model = scoring_server.load_model_with_mlflow_config(str(path))
    os.environ[_MLFLOW_IS_IN_SERVING_ENVIRONMENT.name] = "true"
    return model


def answer(
    body: bytes | str | dict[str, Any], content_type: str, model: "PyFuncModel"
) -> ScoringAnswer:
    """What MLflow's server answers; Refusal where that is not a 200."""
    from mlflow.exceptions import MlflowException
    from mlflow.pyfunc import scoring_server

    schema = model.metadata.get_input_schema()
    if not isinstance(body, dict) and kind(content_type) == CSV:
        body, content_type = _harmless(body, content_type, schema)
    try:
        response = scoring_server.invocations(body, content_type, model, schema)
    except MlflowException as e:
        failed = e.message.startswith(_MODEL_FAILED)
        status, text = e.get_http_status_code(), e.serialize_as_json()
        raise Refusal(status, text.encode(), by_model=failed) from e
    except Exception as e:
        if _while_writing(e):
            raise Refusal(500, b"Internal Server Error", TEXT, by_model=True) from e
        raise _unreadable(e) from e
    if response.status != 200:
        raise Refusal(response.status, response.response.encode(), TEXT)
    return ScoringAnswer(response.response.encode())


def kind(content_type: str) -> str:
    """JSON, CSV or PARQUET; Refusal, with MLflow's words, where it takes no such content."""
    from mlflow.pyfunc import scoring_server

    kinds = {
        scoring_server.CONTENT_TYPE_JSON: JSON,
        scoring_server.CONTENT_TYPE_CSV: CSV,
        scoring_server.CONTENT_TYPE_PARQUET: PARQUET,
    }
    mime, *parameters = [part.strip() for part in content_type.split(";")]
    pairs = dict(parameter.partition("=")[::2] for parameter in parameters)
    if (
        mime in kinds
        and pairs.get("charset", "utf-8").lower() == "utf-8"
        and not pairs.keys() - {"charset"}
    ):
        return kinds[mime]
    response = scoring_server.invocations(b"", content_type, None, None)
    raise Refusal(response.status, response.response.encode(), TEXT)


def no_content_type() -> tuple[int, bytes, str]:
    """What is answered to a request without a content type, on which MLflow's server fails."""
    from mlflow.pyfunc import scoring_server

    response = scoring_server.invocations(b"", "", None, None)
    return response.status, response.response.encode(), TEXT


def decoded(body: bytes) -> dict[str, Any]:
    """The object in a JSON body, as Python's json reads it; Refusal where there is none."""
    from mlflow.exceptions import MlflowException
    from mlflow.pyfunc import scoring_server

    try:
        return dict(scoring_server._decode_json_input(body))
    except MlflowException as e:
        raise Refusal(e.get_http_status_code(), e.serialize_as_json().encode()) from e
    except (RecursionError, ValueError) as e:
        raise _unreadable(e) from e


def _unreadable(error: Exception) -> Refusal:
    """The answer to a request on whose reading MLflow's server fails, with a 500."""
    from mlflow.utils.proto_json_utils import MlflowInvalidInputException

    e = MlflowInvalidInputException(f"It cannot be read: {error!r}")
    return Refusal(e.get_http_status_code(), e.serialize_as_json().encode())


def _while_writing(error: Exception) -> bool:
    """Whether the answer was being written, so that it is the model's that is not JSON."""
    names = {frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)}
    return bool(names & {"predictions_to_json", "unwrapped_predictions_to_json"})


def frame(body: bytes, content_type: str) -> "DataFrame | None":
    """The rows of a CSV or Parquet body; None where it cannot be read, which `answer` explains."""
    from io import BytesIO

    import pandas

    with contextlib.suppress(Exception):
        if kind(content_type) == CSV:
            return pandas.read_csv(BytesIO(body), float_precision="round_trip")
        return pandas.read_parquet(BytesIO(body))
    return None


def _harmless(body: bytes | str, content_type: str, schema: Any) -> tuple[bytes | str, str]:
    """The same table as Parquet where reading it as CSV could end this process.

    The C parser of pandas (seen in 2.3) looks beyond its table of powers for large exponents:
    `1e999999999999` is enough. Its slower way of reading numbers does not.
    """
    from io import StringIO

    import pandas

    with contextlib.suppress(UnicodeDecodeError):  # what MLflow's server says
        text = body if isinstance(body, str) else body.decode()
        tensors = schema is not None and schema.is_tensor_spec()  # for which MLflow reads no CSV
        if _LARGE_EXPONENT.search(text) and not tensors:
            try:
                dtypes = schema and dict(zip(schema.input_names(), schema.pandas_types()))  # noqa: B905
                found = pandas.read_csv(StringIO(text), dtype=dtypes, float_precision="round_trip")
                return found.to_parquet(), PARQUET
            except Exception as e:
                raise _unreadable(e) from e
    return body, content_type
