"""The door to Kubernetes."""

from mlp.adapters.cluster.connection import (
    Cluster,
    ExistsError,
    ForbiddenError,
    Manifest,
    NotFoundError,
    Object,
    UnreachableError,
)

__all__ = [
    "Cluster",
    "ExistsError",
    "ForbiddenError",
    "Manifest",
    "NotFoundError",
    "Object",
    "UnreachableError",
]
