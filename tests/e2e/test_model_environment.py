"""A model whose requirements this Python does not have, with MLflow itself from the index."""

import re
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from tests.integration import model_store
from tests.integration.wheels import HALVED, halving_model, wheel

pytestmark = pytest.mark.e2e


def test_a_model_answers_in_an_environment_made_of_its_requirements(
    shared: Path, tmp_path: Path
) -> None:
    with pytest.raises(metadata.PackageNotFoundError):
        metadata.version("halved")
    brought = wheel(tmp_path, "halved", HALVED)
    needs = [f"mlflow=={metadata.version('mlflow')}", f"halved @ {brought.as_uri()}"]
    store = model_store.make(shared, tmp_path / "project")
    store.ask(champion=["prediction"])
    version = store.register(halving_model(tmp_path / "saved", needs))
    assert made_in(store.ok("promote", version)) == "in an environment made of its requirements"
    [python] = (store.root / ".mlp" / "environments").glob("*/bin/python")
    asked = "import mlflow, halved; print(mlflow.__version__, mlflow.__file__, halved.half(3))"
    done = subprocess.run([str(python), "-c", asked], check=True, capture_output=True, text=True)
    number, file, half = done.stdout.split()
    assert (number, half) == (metadata.version("mlflow"), "1.5")
    assert file.startswith(str(store.root))


def made_in(document: dict[str, list[dict[str, str]]]) -> str:
    """Where the prediction gate says that the model has answered."""
    found = re.fullmatch(r"it answers its example in .* s, (.*)", document["gates"][1]["detail"])
    assert found, document
    return found[1]
