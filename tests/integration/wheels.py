"""A tiny package that no Python here has, as a wheel, and a model that needs it."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

HALVED = {"halved.py": "def half(x):\n    return x / 2\n"}
MODEL_PY = """
import mlflow
from mlflow.pyfunc import PythonModel


class Halves(PythonModel):
    def predict(self, context, model_input, params=None):
        from halved import half

        return [half(x) for x in model_input["x"]]


mlflow.models.set_model(Halves())
"""


def wheel(folder: Path, name: str, files: Mapping[str, str], version: str = "1.0") -> Path:
    """A package as pip installs it."""
    folder.mkdir(parents=True, exist_ok=True)
    about = f"{name}-{version}.dist-info"
    everything = {
        **files,
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = f"{about}/RECORD"
    everything[record] = "".join(f"{path},,\n" for path in [*everything, record])
    made = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as archive:
        for path, text in everything.items():
            archive.writestr(path, text)
    return made


def wanting(folder: Path, lines: Sequence[str]) -> Path:
    """A requirements.txt in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "requirements.txt"
    file.write_text("".join(f"{line}\n" for line in lines))
    return file


def halving_model(folder: Path, lines: Sequence[str]) -> Path:
    """A model that needs `halved`, saved where that is not, with these requirements."""
    import mlflow.pyfunc
    import pandas as pd
    from mlflow.models import infer_signature

    table = pd.DataFrame({"x": [1.0, 3.0]})
    script = folder.with_suffix(".py")
    script.write_text(MODEL_PY)
    mlflow.pyfunc.save_model(
        str(folder),
        python_model=str(script),
        signature=infer_signature(table, [0.5, 1.5]),
        input_example=table,
        pip_requirements=["mlflow"],
    )
    wanting(folder, lines)
    return folder
