"""The door to copier: renders a project template."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mlp.core.errors import ConfigurationError

_SHARED = "shared"  # files that every template has
ANSWERS = ".copier-answers.yml"


def names(folder: Path) -> tuple[str, ...]:
    """The templates in `folder`."""
    return tuple(sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name != _SHARED))


def render(folder: Path, template: str, project: str) -> dict[str, bytes]:
    """The files of a new project by path, sorted: those that all templates share, then its own.

    Raises ConfigurationError where copier cannot render the template.
    """
    answers = {"template": template, "project": project}
    with tempfile.TemporaryDirectory(prefix="mlp-template-") as scratch:
        for part in (_SHARED, template):
            if (folder / part).is_dir():
                _copy(folder / part, Path(scratch), answers)
        files = sorted(path for path in Path(scratch).rglob("*") if path.is_file())
        return {path.relative_to(scratch).as_posix(): path.read_bytes() for path in files}


def _copy(source: Path, target: Path, answers: Mapping[str, str]) -> None:
    with translated(source.name):
        import copier

        # Every answer is given and nothing of a template is run: it is files, not a program.
        copier.run_copy(
            str(source),
            target,
            data=dict(answers),
            defaults=True,
            overwrite=True,
            quiet=True,
            skip_tasks=True,
            unsafe=False,
        )


def answers(text: str) -> dict[str, str]:
    """What the file of answers in a rendered project says."""
    import yaml

    try:
        read = yaml.safe_load(text)
    except yaml.YAMLError as e:
        raise ConfigurationError(f"{ANSWERS} is not YAML", cause=str(e)) from e
    if not isinstance(read, dict) or not {"template", "project"} <= read.keys():
        raise ConfigurationError(f"{ANSWERS} names no template and project")
    return {key: str(value) for key, value in read.items()}


@contextmanager
def translated(template: str) -> Iterator[None]:
    """Copier's errors, and those of the template language, as ours."""
    from copier.errors import CopierError
    from jinja2 import TemplateError

    try:
        yield
    except (CopierError, TemplateError) as e:
        raise ConfigurationError(
            f"the template {template!r} cannot be rendered: {type(e).__name__}",
            fix="pip install --force-reinstall mlp",
            cause=str(e),
        ) from e
