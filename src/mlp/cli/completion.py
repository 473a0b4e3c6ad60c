"""What the shell offers when a word is completed."""

import contextlib
from pathlib import Path

import click


def stage_names(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """The stages of dvc.yaml in the working directory."""
    import yaml

    names: list[str] = []
    with contextlib.suppress(OSError, yaml.YAMLError, AttributeError):
        names = list(yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"])
    return [name for name in names if name.startswith(incomplete)]
