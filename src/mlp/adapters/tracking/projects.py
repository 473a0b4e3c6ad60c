"""MLflow's project backend: what `mlflow run --backend mlp` calls."""

from collections.abc import Callable, Mapping
from pathlib import Path
from subprocess import Popen
from typing import Any

from mlp.core.errors import MlpError

# Starts the project in a directory: entry point, params, the backend's settings, and variables
# under which the run continues MLflow's.
Start = Callable[
    [Path, str, Mapping[str, str], Mapping[str, Any], Mapping[str, str]], "Popen[bytes]"
]


def backend(start: Start) -> Any:
    """A backend that fetches the project as MLflow does, makes the run, and hands over to `start`.

    What `start` refuses becomes MLflow's ExecutionException, which its command line can show.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import ExecutionException
    from mlflow.projects import utils
    from mlflow.projects.backend.abstract_backend import AbstractBackend
    from mlflow.projects.submitted_run import LocalSubmittedRun

    # What MLflow adds to the settings that a user gave.
    mlflows = {value for name, value in vars(utils).items() if name.startswith("PROJECT_")}

    class Backend(AbstractBackend):  # type: ignore[misc]
        def run(
            self,
            project_uri: str,
            entry_point: str,
            params: Mapping[str, str],
            version: str | None,
            backend_config: Mapping[str, Any],
            tracking_uri: str,
            experiment_id: str,
        ) -> Any:
            directory = utils.fetch_and_validate_project(project_uri, version, entry_point, params)
            own = {k: v for k, v in backend_config.items() if k not in mlflows}
            run = utils.get_or_create_run(
                None, project_uri, experiment_id, directory, version, entry_point, params
            )
            run_id = run.info.run_id
            variables = {"MLFLOW_RUN_ID": run_id, "MLFLOW_TRACKING_URI": tracking_uri}
            try:
                process = start(Path(directory), entry_point, params, own, variables)
            except MlpError as e:
                MlflowClient(tracking_uri).set_terminated(run_id, "FAILED")
                raise ExecutionException(f"{e.message}\n{e.fix}") from e
            return LocalSubmittedRun(run_id, process)

    return Backend()
