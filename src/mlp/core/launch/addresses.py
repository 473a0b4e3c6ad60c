"""Addresses as pods see them: which ones they cannot reach, and a server that they can."""

import re

_THIS_MACHINE = re.compile(r"://(localhost|127\.|\[::1\]|0\.0\.0\.0)")


def is_this_machine(url: str) -> bool:
    """Whether an address means the machine that reads it: for a pod, the pod itself."""
    return _THIS_MACHINE.search(url) is not None


def mlflow_server(host: str, port: int = 5000) -> str:
    """The command that starts an MLflow server here which others reach as http://HOST:PORT.

    MLflow answers only to the names in --allowed-hosts. It keeps its files in the user's home: runs
    that MLflow recorded without a server have artifacts that only this machine can read.
    """
    return (
        f"mlflow server --host 0.0.0.0 --port {port}"
        f" --allowed-hosts 'localhost:*,127.0.0.1:*,{host}:{port}'"
        ' --backend-store-uri "sqlite:///$HOME/mlflow.db"'
        ' --artifacts-destination "$HOME/mlflow-artifacts"'
    )
