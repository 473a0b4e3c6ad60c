"""The door to MLflow: delivering events, reading runs back, logging models, its pages."""

from mlp.adapters.tracking.connection import Refused, probe
from mlp.adapters.tracking.delivery import Delivery
from mlp.adapters.tracking.health import reachable
from mlp.adapters.tracking.models import log_model
from mlp.adapters.tracking.pages import experiment_page
from mlp.adapters.tracking.pages import start as start_pages
from mlp.adapters.tracking.projects import backend
from mlp.adapters.tracking.reading import (
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
