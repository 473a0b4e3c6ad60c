"""Finds what ships beside the code: the project templates, and the chart."""

from pathlib import Path

from mlp.core.errors import ConfigurationError


def templates() -> Path:
    """The directory of project templates: in the installed package, or in the source tree."""
    package = Path(__file__).parents[1]
    return _first(package / "_assets" / "templates", package.parents[1] / "templates")


def chart() -> Path:
    """The Helm chart: in the installed package, or in the source tree."""
    package = Path(__file__).parents[1]
    return _first(package / "_assets" / "helm" / "mlp", package.parents[1] / "helm" / "mlp")


def _first(*places: Path) -> Path:
    for place in places:
        if place.is_dir():
            return place
    raise ConfigurationError(
        f"this installation of mlp is incomplete: {places[0]} is missing",
        fix="pip install --force-reinstall mlp",
    )
