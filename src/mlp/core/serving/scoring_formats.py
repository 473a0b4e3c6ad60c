"""MLflow's scoring formats: where a request has its rows, for the server and for the log alike.

https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally/
"""

from collections.abc import Mapping
from typing import Any

JSON = "application/json"
CSV = "text/csv"
PARQUET = "application/vnd.apache.parquet"
SPLIT, RECORDS, INSTANCES, INPUTS = "dataframe_split", "dataframe_records", "instances", "inputs"
FORMATS = (SPLIT, RECORDS, INSTANCES, INPUTS)


def data_of(document: Any) -> tuple[str, Any] | None:
    """A JSON request's format and its data; None where it has no format, or several."""
    names = [name for name in FORMATS if name in document] if isinstance(document, dict) else []
    return (names[0], document[names[0]]) if len(names) == 1 else None


def columns_of(data: Any) -> Mapping[str, list[Any]] | None:
    """Data that came by column: lists of one length; None where it is something else."""
    if not isinstance(data, dict) or not all(isinstance(each, list) for each in data.values()):
        return None
    return data if len({len(each) for each in data.values()}) == 1 else None
