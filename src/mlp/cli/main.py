"""The command line's root: finds the verb's file, and turns errors into words and exit codes."""

import importlib
import os
import sys
from typing import Any

import click

from mlp.adapters.base import interrupts
from mlp.core import patience
from mlp.core.errors import MlpError

# Verb -> what it does. The file of a verb is imported when the verb is called, not for `--help`.
_GROUPS = {
    "project": {
        "init": "Make a project from a template, or adopt a repository.",
        "build": "Make the environment image of a target, and push it.",
        "doctor": "Check that everything here works, and say what to do where not.",
        "status": "Show what the next run would do, and how the last one ended.",
    },
    "pipeline": {
        "run": "Run the pipeline, or some of its stages, as a tracked run.",
        "train": "Run the training stage, here or on a cluster, on one process or several.",
        "jobs": "List, follow, explain, cancel and finish stages that run in clusters.",
        "targets": "Show, add and check the clusters that stages can run on.",
        "lineage": "Show what a file was made from, and by which run.",
    },
    "experiments": {
        "runs": "List, show, compare, reproduce and deliver runs.",
        "ui": "Open MLflow's pages on this project's runs.",
    },
    "models": {
        "models": "Register, promote and roll back model versions, and show their history.",
    },
    "production": {
        "serve": "Serve the model, with a challenger beside the champion.",
        "deploy": "Serve the model on a cluster, and bring a challenger to the users.",
        "ab": "Tell whether the challenger is better, and set its share of the users.",
        "predictions": "Show predictions, label them, ask questions about them.",
    },
}
_SHORT = {verb: text for verbs in _GROUPS.values() for verb, text in verbs.items()}


class Verbs(click.Group):
    """The verbs by group; each is imported when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all verbs, in the order of the help page."""
        return list(_SHORT)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The verb's command: `command` in the file of its name."""
        if name not in _SHORT:
            return None
        command: click.Command = importlib.import_module(f"mlp.cli.{name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The verb that `args` begin with; a wrong one is answered with the nearest."""
        name = args[0]
        if name not in _SHORT and not ctx.resilient_parsing and not name.startswith("-"):
            from mlp.core.nearest import did_you_mean

            ctx.fail(f"there is no command {name!r}{did_you_mean(name, _SHORT)}.")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The verbs with their short texts, group by group, without importing one."""
        for group, verbs in _GROUPS.items():
            with formatter.section(group.capitalize()):
                formatter.write_dl(list(verbs.items()))


@click.command(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mlp-loop", prog_name="mlp")
def mlp() -> None:
    """From an experiment to a model in production that retrains itself.

    Every command takes --help; those that report take --json.
    """


def main() -> None:
    """The console script. Ends the process with a documented exit code."""
    interrupts.keep()
    patience.tell = _note
    sys.exit(call(sys.argv[1:]))


def call(arguments: list[str], **extra: Any) -> int:
    """Run one command line; returns its exit code.

    0 done, 1 a bug in mlp, 2 usage, 3 configuration, 4 a gate refused, 5 something remote failed,
    6 the user's own code failed, 130 interrupted.
    """
    try:
        _refuse_what_is_no_text(arguments)
        result = mlp.main(args=arguments, prog_name="mlp", standalone_mode=False, **extra)
    except click.exceptions.Exit as e:
        return e.exit_code
    except click.ClickException as e:
        e.show()
        return 2
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return 130
    except (MlpError, OSError) as e:
        return _report(e, "--traceback" in arguments)
    except Exception as e:  # noqa: BLE001 - the last door: whatever comes here is our bug
        return _report_bug(e, "--traceback" in arguments)
    return result if isinstance(result, int) else 0


def _note(text: str) -> None:
    from mlp.cli import render

    render.note(text)


def _refuse_what_is_no_text(arguments: list[str]) -> None:
    """No database, JSON or YAML that an argument goes to could keep it."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError as e:
            raise click.UsageError(f"{os.fsencode(argument)!r} is not UTF-8 text") from e


def _report(error: MlpError | OSError, traceback: bool) -> int:
    from mlp.cli import render
    from mlp.core.errors import from_os_error

    known = error if isinstance(error, MlpError) else from_os_error(error)
    render.error(known)
    if traceback:
        _print_traceback(error)
    return known.exit_code


def _report_bug(error: Exception, traceback: bool) -> int:
    from mlp.cli import render

    bug = MlpError(
        f"this is a bug in mlp: {type(error).__name__}: {error}",
        fix="run it again with --traceback, and report what it prints",
    )
    render.error(bug)
    if traceback:
        _print_traceback(error)
    return bug.exit_code


def _print_traceback(error: Exception) -> None:
    import traceback

    from mlp.core.secrets import Masker

    text = "".join(traceback.format_exception(error))
    click.echo(Masker(os.environ).text(text), err=True)
