"""The options that several verbs share."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

json_output = click.option(
    "--json", "json_output", is_flag=True, help="One JSON document on standard output."
)
dry_run = click.option("--dry-run", is_flag=True, help="Show what would be done, and stop.")
env = click.option(
    "--env",
    metavar="NAME",
    envvar="MLP_ENV",
    help="An environment of mlp.yaml: a key of `envs`. Also: MLP_ENV.",
)
config = click.option(
    "--config",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set a key of mlp.yaml for this call; may be repeated.",
)
overrides = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set a param in params.yaml, as in train.lr=0.01; recorded with the run.",
)
force = click.option("--force", is_flag=True, help="Run stages that have not changed, too.")
pull = click.option(
    "--pull", is_flag=True, help="Fetch data that is missing from the DVC remote first."
)

target = click.option(
    "--target",
    metavar="NAME",
    help="Where the stage runs: a key of `targets` in mlp.yaml, or `local`.",
)
detach = click.option(
    "--detach", is_flag=True, help="Do not wait for a stage that runs in a cluster."
)
all_ranks = click.option(
    "--all-ranks", is_flag=True, help="Show what every rank prints, not the first one only."
)
traceback = click.option(
    "--traceback", is_flag=True, expose_value=False, help="Show where an error came from."
)


def common(function: F) -> F:
    """What every verb takes that works on a project."""
    return env(config(traceback(function)))


def project(function: Callable[..., T]) -> Callable[..., T]:
    """The same; the function gets the project that they make of mlp.yaml."""

    @common
    @functools.wraps(function)
    def with_project(*arguments: Any, env: str | None, settings: tuple[str, ...], **more: Any) -> T:
        from mlp.flows import project as projects

        return function(*arguments, project=projects.load(env=env, settings=settings), **more)

    return with_project
