"""A YAML document that knows on which line each of its keys and values stands."""

from typing import Any

import yaml

Path = tuple[int | str, ...]


class Document:
    """`data` as plain Python, the place of each path in it, and what YAML itself refused."""

    def __init__(self, text: str, name: str) -> None:
        self._name = name
        self._values: dict[Path, yaml.Mark] = {}
        self._keys: dict[Path, yaml.Mark] = {}
        self.data: Any = None
        self.mistakes: list[str] = []
        try:
            self._read(text)
        except yaml.MarkedYAMLError as e:
            mark = e.problem_mark or e.context_mark
            where = f"{mark.line + 1}:{mark.column + 1}" if mark else "1"
            self.mistakes.append(f"{name}:{where}: not YAML: {e.problem or e.context}")
        except yaml.YAMLError as e:  # a character that YAML does not allow
            self.mistakes.append(f"{name}: not YAML: {' '.join(str(e).split())}")

    def has(self, path: Path) -> bool:
        """Whether the document has something at `path`."""
        return path in self._values

    def place(self, path: Path, *, key: bool = False) -> str:
        """`file:line:column` of the value at `path`, or its key; the nearest above if absent."""
        marks = self._keys if key else self._values
        mark = marks.get(path)
        while mark is None and path:
            path = path[:-1]
            mark = self._keys.get(path) or self._values.get(path)
        return f"{self._name}:{mark.line + 1}:{mark.column + 1}" if mark else f"{self._name}:1:1"

    def _read(self, text: str) -> None:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is not None:
                self._mark(node, ())
                self.data = loader.construct_document(node)
        finally:
            loader.dispose()

    def _mark(self, node: yaml.Node, path: Path) -> None:
        if path in self._values:
            return  # an alias inside itself
        self._values[path] = node.start_mark
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                name = str(key.value)
                inner = (*path, name)
                if inner in self._keys and name != "<<":
                    line = key.start_mark.line + 1
                    first = self._keys[inner].line + 1
                    self.mistakes.append(
                        f"{self._name}:{line}: key {name!r} is there twice (first in line {first})"
                    )
                self._keys[inner] = key.start_mark
                self._mark(value, inner)
        elif isinstance(node, yaml.SequenceNode):
            for i, value in enumerate(node.value):
                self._mark(value, (*path, i))
