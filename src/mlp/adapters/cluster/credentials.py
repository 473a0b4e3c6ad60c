"""Making a Secret. What is in one is never read back."""

from collections.abc import Mapping

from mlp.adapters.cluster.connection import Cluster


def create_secret(cluster: Cluster, name: str, values: Mapping[str, str]) -> None:
    """Make a Secret in the namespace. Raises ExistsError where there is one of that name."""
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "type": "Opaque",
        "stringData": dict(values),
    }
    cluster.create(cluster.path("secrets"), body)
