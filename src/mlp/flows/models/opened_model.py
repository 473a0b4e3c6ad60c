"""The project's model with its registry and its ledger at hand."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlp.adapters.base import machine, statefile
from mlp.adapters.state import StateDatabase, open_state
from mlp.adapters.tracking import registry
from mlp.core.errors import UsageError
from mlp.core.models.ledger import LedgerEntry
from mlp.core.models.model_version import ModelVersion
from mlp.flows.project import Project


@dataclass(frozen=True, slots=True)
class Opened:
    """One model: MLflow's registry at `uri` says what is, the ledger in `state` how it came."""

    project: Project
    uri: str
    name: str
    state: StateDatabase

    def aliases(self) -> dict[str, str]:
        """What each alias means now."""
        return registry.aliases(self.uri, self.name)

    def entries(self) -> list[LedgerEntry]:
        """The whole ledger, the oldest first."""
        return self.state.entries(self.name)

    def version(self, reference: str) -> ModelVersion:
        """The version of that number, alias, or `latest`. Raises UsageError where there is none."""
        number = reference.removeprefix("v")
        if not _is_number(number):
            number = self.aliases().get(reference, "")
            if reference == "latest":
                number = next((v.version for v in registry.versions(self.uri, self.name)), "")
        if not number:
            raise UsageError(
                f"model {self.name!r} has no version {reference!r}",
                fix="VERSION is a number, an alias as in `challenger`, or `latest`;"
                " `mlp models list` shows them",
            )
        return registry.version(self.uri, self.name, number)

    def environments(self) -> Path:
        """Where the environments of models' requirements are kept on this machine."""
        return self.project.layout.state / "environments"


def _is_number(text: str) -> bool:
    """Whether the text may be a version's number: MLflow's databases keep 32 bits."""
    return text.isascii() and text.isdigit() and len(text) < 20 and int(text) < 2**31


@contextmanager
def opened(project: Project) -> Iterator[Opened]:
    """The model of the project. Raises ConfigurationError where mlp.yaml names none."""
    name = project.model.name
    statefile.unlisted(project.layout.state)
    state = open_state(project.state)
    try:
        yield Opened(project, project.tracking_uri, name, state)
    finally:
        state.close()


def actor() -> str:
    """Who is written down for what is done now."""
    return machine.user()
