"""Every command and option that our words name exists: what a fix says can be typed."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

import mlp as package
from mlp.cli.main import mlp

SOURCE = Path(package.__file__).parent
# An option without its command is of `mlp train`, or of the only command that these serve.
SERVES = {
    "core/ab/rollout.py": "deploy rollout",
    "flows/models/packaging.py": "models package",
    "flows/runs/mlflow_pages.py": "ui",
    "flows/compare/reproducing.py": "runs reproduce",
    "flows/launch/target_choosing.py": "targets add",
    "flows/launch/target_services.py": "targets add",
    "flows/launch/target_entries.py": "targets add",
}
# Texts of other tools, and those of mlp.cli, which stand beside the options themselves.
FOREIGN = re.compile(
    r"\b(kubectl|git|dvc|pip|docker|helm|uv|mlflow|server)\b|^X (create|patch) |\n"
)
OWN = ("cli/", "runtime/", "flows/runs/mlflow_projects.py")
COMMAND = re.compile(r"(?<![\w./@'-])mlp (?P<words>[a-z]+(?: [a-z]+)?)(?P<rest>[^;`(]*)")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")


@dataclass(frozen=True)
class Text:
    """A text of the source, with X for what is put into it; `fix`: it is what to do."""

    file: str
    line: int
    text: str
    fix: bool = False


def texts(source: str, file: str) -> Iterator[Text]:
    """All texts but docstrings."""
    nodes = list(ast.walk(ast.parse(source)))
    fixes = {id(n.value) for n in nodes if isinstance(n, ast.keyword) and n.arg == "fix"}
    parts = {id(part) for n in nodes if isinstance(n, ast.JoinedStr) for part in n.values}
    parts |= {id(n.value) for n in nodes if isinstance(n, ast.Expr)}
    for node in nodes:
        if isinstance(node, ast.JoinedStr | ast.Constant) and id(node) not in parts:
            yield Text(file, node.lineno, _text(node), id(node) in fixes)


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) for part in node.values)
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    return "X"


def command(words: list[str]) -> click.Command | None:
    """The command that begins with these words, None where there is none."""
    found: click.Command | None = mlp
    for word in words:
        if not isinstance(found, click.Group):
            return found  # the word is an argument
        found = found.get_command(click.Context(found), word)
    return found


def options(found: click.Command) -> set[str]:
    return {
        "--help",
        *(name for each in found.params for name in (*each.opts, *each.secondary_opts)),
    }


def mistakes(text: Text) -> Iterator[str]:
    """What nobody could type of what a text says."""
    for match in COMMAND.finditer(text.text):
        words = match["words"].split()
        verb, found = command(words[:1]), command(words)
        typed = text.text[match.start() - 1 : match.start()] == "`"
        typed = typed or (text.fix and match.start() == 0)
        if verb is None and typed:
            yield f"there is no `mlp {words[0]}`"
        if verb is not None and found is None:
            yield f"there is no `mlp {' '.join(words)}`"
        if found is not None:
            for option in set(OPTION.findall(match["rest"])) - options(found):
                yield f"`mlp {' '.join(words)}` has no {option}"
    rest = COMMAND.sub("", text.text)
    if " " in rest.strip() and not FOREIGN.search(rest) and not text.file.startswith(OWN):
        name = SERVES.get(text.file, "train")
        found = command(name.split())
        assert found is not None
        for option in set(OPTION.findall(rest)) - options(found):
            yield f"{option} is not an option of `mlp {name}`, and no other command is named"


def test_every_command_and_option_that_a_text_names_is_there() -> None:
    wrong = [
        f"{text.file}:{text.line}: {mistake}: {text.text!r}"
        for path in sorted(SOURCE.rglob("*.py"))
        for text in texts(path.read_text(), str(path.relative_to(SOURCE)))
        for mistake in mistakes(text)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("source", "mistake"),
    [
        ('f"`mlp model {verb}` shows them"', "there is no `mlp model`"),
        ('fail(fix="mlp modles list")', "there is no `mlp modles`"),
        ('f"mlp models lst {name}"', "there is no `mlp models lst`"),
        ('"mlp deploy promote --accept champion"', "`mlp deploy promote` has no --accept"),
        ('"train a better one; or --accept champion"', "--accept is not an option of `mlp train`"),
    ],
)
def test_what_cannot_be_typed_is_found(source: str, mistake: str) -> None:
    (text,) = texts(f"x = {source}", "core/models/gates.py")
    assert mistake in "".join(mistakes(text))
