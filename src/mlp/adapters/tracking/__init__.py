"""The door to MLflow: delivering events, reading runs back, logging models, its pages."""

from mlp.adapters.tracking.client import probe
from mlp.adapters.tracking.delivery import Delivery
from mlp.adapters.tracking.mlflow_errors import Refused
from mlp.adapters.tracking.model_logging import log_model
from mlp.adapters.tracking.pages_server import experiment_page
from mlp.adapters.tracking.pages_server import start as start_pages
from mlp.adapters.tracking.projects import backend
from mlp.adapters.tracking.reachability import reachable
from mlp.adapters.tracking.run_reading import (
    NoSuchRun,
    artifact_text,
    find_run,
    list_runs,
    pipeline_of,
    producer_of,
)

__all__ = [
    "Delivery",
    "NoSuchRun",
    "Refused",
    "artifact_text",
    "backend",
    "experiment_page",
    "find_run",
    "list_runs",
    "log_model",
    "pipeline_of",
    "probe",
    "producer_of",
    "reachable",
    "start_pages",
]
