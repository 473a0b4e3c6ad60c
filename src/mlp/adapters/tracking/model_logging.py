"""Models as MLflow stores them: logging one, and delivering one that was logged in a stage."""

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp.core.errors import MissingExtraError, UsageError
from mlp.core.runs.environment import QUIET

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Our id of a model, as a tag of the one that the server made for it.
_MODEL_TAG = "mlp.model_id"


def log_model(model: Any, example: Any, name: str, **kwargs: Any) -> None:
    """Log `model` in the active MLflow run (one is started if need be), with its signature.

    Requirements are the flavour's own with the versions installed here, unless `kwargs` have them:
    MLflow's way of finding more loads the model in a second process, for many seconds. Only a
    PythonModel, which may need anything, is looked at in that way.
    """

    for variable, value in QUIET.items():
        os.environ.setdefault(variable, value)
    flavour = _flavour(model)
    arguments: dict[str, Any] = {"name": name, **kwargs}
    if example is not None:
        arguments.setdefault("input_example", _loggable(example))  # MLflow infers the signature
    if flavour.__name__ == "mlflow.pyfunc":
        flavour.log_model(python_model=model, **arguments)
        return
    if not {"pip_requirements", "conda_env"} & kwargs.keys():
        arguments["pip_requirements"] = _requirements(model, flavour)
    flavour.log_model(model, **arguments)


def deliver_model(
    client: "MlflowClient", experiment_id: str, ids: Mapping[str, str], data: Mapping[str, Any]
) -> None:
    """Make the model of a `model` event on the server, or complete the one begun there.

    `ids` has our id of the run that logged it, and MLflow's.
    """
    from mlflow.entities import LoggedModelOutput

    ((_, run),) = ids.items()
    query = f"tags.`{_MODEL_TAG}` = '{data['model']}'"
    found = client.search_logged_models([experiment_id], query, max_results=1)
    made = (
        found[0]
        if found
        else client.create_logged_model(
            experiment_id,
            name=data["name"],
            source_run_id=run,
            tags={**data["tags"], _MODEL_TAG: data["model"]},
            params=data["params"] or None,
            model_type=data.get("type"),
        )
    )
    directory = Path(data["path"])
    if directory.is_dir():
        client.log_model_artifacts(made.model_id, str(directory))
        names = {data["path"]: made.artifact_location, data["model"]: made.model_id, **ids}
        _rename(client, directory, made.model_id, names)
    client.finalize_logged_model(made.model_id, data["status"])
    outputs = client.get_run(run).outputs
    linked = {output.model_id for output in outputs.model_outputs} if outputs else set()
    if made.model_id not in linked:
        client.log_outputs(run, [LoggedModelOutput(made.model_id, data.get("step", 0))])


def _rename(
    client: "MlflowClient", directory: Path, model_id: str, names: Mapping[str, str]
) -> None:
    """The model's own description names its run and itself: by the server's ids from now on."""
    description = directory / "MLmodel"
    if not description.is_file():
        return
    text = description.read_text(encoding="utf-8")
    for ours, theirs in names.items():
        text = text.replace(ours, theirs)
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "MLmodel").write_text(text, encoding="utf-8")
        client.log_model_artifacts(model_id, scratch)


def _flavour(model: Any) -> Any:
    """MLflow's module for models of this kind."""
    import mlflow.pyfunc

    if isinstance(model, mlflow.pyfunc.PythonModel):
        return mlflow.pyfunc
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(model, torch.nn.Module):
        import mlflow.pytorch

        return mlflow.pytorch
    if hasattr(model, "fit") and hasattr(model, "get_params"):
        try:
            import mlflow.sklearn
        except ModuleNotFoundError as e:
            raise MissingExtraError("logging a scikit-learn model", "train", str(e)) from e
        return mlflow.sklearn
    raise UsageError(
        f"mlp.log_model cannot log a {type(model).__name__}",
        fix="pass a torch module, a scikit-learn estimator or an mlflow.pyfunc.PythonModel; "
        "or call MLflow's own log_model: it lands in the same run",
    )


def _loggable(example: Any) -> Any:
    """The example in a form that MLflow infers a signature from: tensors as arrays, and nullable
    integers as floats, since its integer columns cannot have missing values."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(example, torch.Tensor):
        return example.detach().cpu().numpy()
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(example, pandas.DataFrame):
        nullable = [
            name
            for name, kind in example.dtypes.items()
            if pandas.api.types.is_extension_array_dtype(kind)
            and pandas.api.types.is_integer_dtype(kind)
        ]
        return example.astype(dict.fromkeys(nullable, "float64"))
    return example


def _requirements(model: Any, flavour: Any) -> list[str]:
    requirements = list(flavour.get_default_pip_requirements())
    lightning = sys.modules.get("pytorch_lightning")
    if lightning is not None and isinstance(model, lightning.LightningModule):
        requirements.append(f"pytorch-lightning=={lightning.__version__}")
    return requirements
