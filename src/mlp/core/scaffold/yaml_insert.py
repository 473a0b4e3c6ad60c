"""Puts a section into a YAML text and leaves every other line of it as it is.

ruamel.yaml keeps comments, and writes all lines anew, in its own spacing: whoever reads the diff of
what `mlp targets add` did would look for one section in a changed file.
"""

import re
from collections.abc import Mapping
from typing import Any

import yaml

# Behind what YAML takes for the end of a line.
_BREAK = re.compile(r"(?<=[\n\x85\u2028\u2029])")


def inserted(text: str, above: str, name: str, section: Mapping[str, Any] | str) -> str | None:
    """`text` with `section` as ABOVE.NAME, in place of one that is there.

    None where the text is not written in a way that allows it: flow style, for one.
    """
    try:
        root = yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError:
        return None
    if not isinstance(root, yaml.MappingNode) or root.flow_style or root.start_mark.column:
        return None
    lines = [line for line in _BREAK.split(text) if line]
    if lines and not _BREAK.search(lines[-1]):
        lines[-1] += "\n"
    result = _placed(lines, root, above, name, section)
    made = None if result is None else "".join(result)
    return made if made is not None and holds(made, text, above, name, section) else None


def holds(made: str, text: str, above: str, name: str, section: Mapping[str, Any] | str) -> bool:
    """Whether `made` says what `text` does, and `section` as ABOVE.NAME."""
    try:
        data = yaml.safe_load(text) or {}
        return bool(
            yaml.safe_load(made) == {**data, above: {**(data.get(above) or {}), name: section}}
        )
    except yaml.YAMLError:
        return False


def _placed(
    lines: list[str],
    root: yaml.MappingNode,
    above: str,
    name: str,
    section: Mapping[str, Any] | str,
) -> list[str] | None:
    parent = _entry(root, above)
    if parent is None:
        gap = ["\n"] if lines and lines[-1].strip() else []
        return [*lines, *gap, f"{above}:\n", *_block(name, section, 2)]
    key, value = parent
    if not isinstance(value, yaml.MappingNode):  # nothing behind the key
        at = key.end_mark.line + 1
        return [*lines[:at], *_block(name, section, 2), *lines[at:]]
    if value.flow_style or not value.value:
        return None
    indent = value.value[0][0].start_mark.column
    block = _block(name, section, indent)
    old = _entry(value, name)
    if old is not None:
        return [*lines[: old[0].start_mark.line], *block, *lines[_last(old[1]) + 1 :]]
    at = _last(value) + 1
    while at < len(lines) and _is_comment(lines[at], indent):
        at += 1
    return [*lines[:at], *block, *lines[at:]]


def _entry(node: yaml.MappingNode, name: str) -> tuple[yaml.Node, yaml.Node] | None:
    return next((pair for pair in node.value if pair[0].value == name), None)


def _block(name: str, section: Mapping[str, Any] | str, indent: int) -> list[str]:
    plain = section if isinstance(section, str) else dict(section)
    text = yaml.safe_dump({name: plain}, sort_keys=False, allow_unicode=True, width=1000)
    return [f"{' ' * indent}{line}\n" for line in text.splitlines()]


def _last(node: yaml.Node) -> int:
    """The last line that belongs to a node; a collection's own mark is behind the comments."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return max(_last(each) for each in (last if isinstance(last, tuple) else (last,)))
    end = node.end_mark
    return int(end.line if end.column else max(node.start_mark.line, end.line - 1))


def _is_comment(line: str, indent: int) -> bool:
    """Whether a line is a comment on what is indented so far, or further."""
    text = line.lstrip()
    return text.startswith("#") and len(line) - len(text) >= max(1, indent)
