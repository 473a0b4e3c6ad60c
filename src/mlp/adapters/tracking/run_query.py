"""Which runs are asked for, as data: each kind of store says it in its own language."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RunQuery:
    """Runs with all of these tags, and with a name, or with the beginning of an id or of a tag."""

    tags: Mapping[str, str] = field(default_factory=dict)
    name: str | None = None
    id_begins: str | None = None
    tag_begins: tuple[str, str] | None = None

    def __str__(self) -> str:
        """The query as MLflow's filter string."""
        terms = [f"tags.`{key}` = {quoted(value)}" for key, value in self.tags.items()]
        if self.name is not None:
            terms.append(f"attributes.run_name = {quoted(self.name)}")
        if self.id_begins is not None:
            terms.append(f"attributes.run_id LIKE {quoted(f'{self.id_begins}%')}")
        if self.tag_begins is not None:
            key, value = self.tag_begins
            terms.append(f"tags.`{key}` LIKE {quoted(f'{value}%')}")
        return " and ".join(terms)


def quoted(value: str) -> str:
    """A text in MLflow's filter strings; quotes cannot be escaped there, and go."""
    return "'{}'".format(value.replace("'", ""))
