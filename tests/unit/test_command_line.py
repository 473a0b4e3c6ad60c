"""The command line answers at once, and tells what is wrong with how it was called."""

import json
import subprocess
import sys

import pytest

from mlp.cli.main import Verbs, call, mlp

HEAVY = {
    *("mlflow", "torch", "pytorch_lightning", "lightning", "optuna", "evidently", "kubernetes"),
    *("dvc", "pandas", "numpy", "sklearn", "pydantic", "duckdb", "copier"),
}
PAGES = """
import json, sys
sys.argv = ["mlp"]
from mlp.cli.main import call
heavy = set(json.loads(sys.stdin.readline()))
for line in sys.stdin:
    code = call(json.loads(line))
    found = sorted(heavy & {name.partition(".")[0] for name in sys.modules})
    print(json.dumps([line.strip(), code, found]), file=sys.stderr)
"""


def pages() -> list[list[str]]:
    """The command lines of every help page, those of groups inside of groups too."""
    assert isinstance(mlp, Verbs)
    found = [["--help"], ["--version"]]
    context = mlp.make_context("mlp", [], resilient_parsing=True)
    for verb in mlp.list_commands(context):
        found.append([verb, "--help"])
        command = mlp.get_command(context, verb)
        for name in getattr(command, "commands", {}):
            found.append([verb, name, "--help"])
    return found


def test_no_help_page_imports_what_is_slow() -> None:
    lines = [json.dumps(sorted(HEAVY)), *(json.dumps(page) for page in pages())]
    done = subprocess.run(
        [sys.executable, "-c", PAGES], input="\n".join(lines), capture_output=True, text=True
    )
    told = [json.loads(line) for line in done.stderr.splitlines()]
    assert told == [[line, 0, []] for line in lines[1:]]


def test_import_mlp_costs_nothing() -> None:
    script = f"import mlp, sys; print({HEAVY!r} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["rnu"], "did you mean 'run'?"),
        (["run", "--forse"], "--force"),
        (["run", "--set"], "requires an argument"),
        (["train", "--processes", "0"], "x>=1"),
        (["train", "--strategy", "dpp"], "ddp"),
    ],
)
def test_a_wrong_call_is_answered_with_what_is_right(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(arguments) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["models", "promote", "1", "--reason", "\udcff"],
        ["models", "promote", "1", "--reason=\udcff"],
        ["models", "register", "ab\udcff"],
        ["init", "\udcff"],
        ["\udcff"],
    ],
)
def test_what_is_no_text_is_a_wrong_call(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """As `$'\\xff'` comes from a shell: no database and no JSON could keep it."""
    assert call(arguments) == 2
    assert "\\xff' is not UTF-8 text" in capsys.readouterr().err
