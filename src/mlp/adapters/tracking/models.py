"""Models as MLflow stores them: logging one, and delivering one that was logged in a stage."""

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp.core.environment import QUIET
from mlp.core.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Our id of a model, as a tag of the one that the server made for it.
_MODEL_TAG = "mlp.model_id"


def log_model(model: Any, example: Any, name: str, **kwargs: Any) -> None:
    """Log `model` in the active MLflow run (one is started if need be), with its signature.

    Requirements are the flavour's own with the versions installed here, unless `kwargs` have them:
    MLflow's way of finding more would load the model in a second process, for many seconds.
    """
    import os

    for variable, value in QUIET.items():
        os.environ.setdefault(variable, value)
    flavour = _flavour(model)
    arguments: dict[str, Any] = {"name": name, **kwargs}
    if example is not None:
        example = _as_numpy(example)
        arguments.setdefault("input_example", example)
        arguments.setdefault("signature", _signature(model, example, flavour))
    if "pip_requirements" not in kwargs and "conda_env" not in kwargs:
        arguments["pip_requirements"] = _requirements(model, flavour)
    if flavour.__name__ == "mlflow.pyfunc":
        flavour.log_model(python_model=model, **arguments)
    else:
        flavour.log_model(model, **arguments)


def deliver_model(
    client: "MlflowClient", experiment_id: str, run: str, data: Mapping[str, Any]
) -> None:
    """Make the model of a `model` event on the server, or complete the one begun there."""
    from mlflow.entities import LoggedModelOutput

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
        _name_as_delivered(client, directory, made, run, data)
    client.finalize_logged_model(made.model_id, data["status"])
    if not found:
        client.log_outputs(run, [LoggedModelOutput(made.model_id, data.get("step", 0))])


def _name_as_delivered(
    client: "MlflowClient", directory: Path, made: Any, run: str, data: Mapping[str, Any]
) -> None:
    """The model's own description names its run and itself: by the server's ids from now on."""
    description = directory / "MLmodel"
    if not description.is_file():
        return
    text = description.read_text(encoding="utf-8")
    text = text.replace(data["path"], made.artifact_location)
    text = text.replace(data["model"], made.model_id).replace(data["run"], run)
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "MLmodel").write_text(text, encoding="utf-8")
        client.log_model_artifacts(made.model_id, scratch)


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


def _as_numpy(example: Any) -> Any:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(example, torch.Tensor):
        return example.detach().cpu().numpy()
    return example


def _signature(model: Any, example: Any, flavour: Any) -> Any:
    """What goes in and what comes out, from one prediction on the example."""
    from mlflow.models import infer_signature

    if flavour.__name__ == "mlflow.pytorch":
        import torch

        training = model.training
        model.eval()
        with torch.no_grad():
            device = next((p.device for p in model.parameters()), torch.device("cpu"))
            predicted = model(torch.from_numpy(example).to(device)).cpu().numpy()
        model.train(training)
        return infer_signature(example, predicted)
    if flavour.__name__ == "mlflow.sklearn":
        return infer_signature(example, model.predict(example))
    return infer_signature(example)


def _requirements(model: Any, flavour: Any) -> list[str]:
    requirements = list(flavour.get_default_pip_requirements())
    lightning = sys.modules.get("pytorch_lightning")
    if lightning is not None and isinstance(model, lightning.LightningModule):
        requirements.append(f"pytorch-lightning=={lightning.__version__}")
    return requirements
