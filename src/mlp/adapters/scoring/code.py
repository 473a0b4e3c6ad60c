"""The Python code that a model brings along, which stays in the process that has loaded it.

`code_paths` of every flavour go to sys.path, and what is imported from there to sys.modules:
another version's module of the same name would never be read.
"""

import sys
from pathlib import Path

import yaml


def brings_code(folder: Path) -> bool:
    """Whether the model in `folder` puts code of its own on sys.path when it is loaded."""
    try:
        description = yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8"))
        return any(flavour.get("code") for flavour in description["flavors"].values())
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return False  # no model of MLflow's: loading it says so


def left_code(folder: Path) -> bool:
    """Whether this process finds modules in `folder`, or has imported some from there.

    What MLflow loads from a script by itself has a name of its own each time, and does no harm.
    """
    inside = f"{folder.resolve()}/"
    if any(f"{Path(entry).resolve()}/".startswith(inside) for entry in sys.path if entry):
        return True
    return any(
        str(getattr(module, "__file__", None) or "").startswith(inside)
        for name, module in list(sys.modules.items())
        if not name.startswith("code_model_")
    )
