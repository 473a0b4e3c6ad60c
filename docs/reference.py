"""Writes docs/commands.md from the commands' own help."""

from collections.abc import Iterator
from pathlib import Path

import click

from mlp.cli.main import mlp

HEAD = """\
# Commands

Written by `make docs` from `mlp VERB --help`. Exit codes: 0 done, 1 a bug in mlp, 2 usage,
3 configuration, 4 a gate refused, 5 something remote failed, 6 the user's own code failed,
130 interrupted.
"""


def pages(command: click.Command, name: str, above: click.Context | None = None) -> Iterator[str]:
    """The help of a command and of all below it, as sections."""
    with click.Context(
        command, parent=above, info_name=name, **command.context_settings
    ) as context:
        if above is not None:
            title = context.command_path
            yield f"## `{title}`\n\n```text\n{command.get_help(context)}\n```\n"
        if isinstance(command, click.Group):
            for inner in command.list_commands(context):
                found = command.get_command(context, inner)
                assert found is not None
                yield from pages(found, inner, context)


def main() -> None:
    """Write the page."""
    text = "\n".join([HEAD, *pages(mlp, "mlp")])
    (Path(__file__).parent / "commands.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
