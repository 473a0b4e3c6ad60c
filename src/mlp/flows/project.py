"""The project that a command works on."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlp.core import config as configuration
from mlp.core.config import Config
from mlp.core.errors import ConfigurationError, UsageError
from mlp.core.launch.launch import LOCAL
from mlp.core.launch.targets_section import KubernetesTarget
from mlp.core.layout import Layout
from mlp.core.models.model_section import Model
from mlp.core.nearest import did_you_mean
from mlp.core.runs.environment import STATE, TRACKING_URI
from mlp.core.runs.tracking_uri import absolute, refuse_odd


@dataclass(frozen=True, slots=True)
class Project:
    """A directory with an mlp.yaml, and what it says."""

    layout: Layout
    config: Config
    env: str | None = None
    settings: Sequence[str] = ()

    @property
    def root(self) -> Path:
        """The directory of mlp.yaml, absolute."""
        return self.layout.root

    @property
    def tracking_uri(self) -> str:
        """Where runs are recorded: MLP_TRACKING_URI, or mlp.yaml's, or a file in the project.

        A relative SQLite file or folder is made absolute.
        """
        given = os.environ.get(TRACKING_URI) or self.config.tracking.uri
        return absolute(given or configuration.DEFAULT_TRACKING_URI, self.root)

    @property
    def state(self) -> str:
        """The database of the ledger: MLP_STATE, or mlp.yaml's, or a file in the project."""
        given = os.environ.get(STATE) or self.config.state
        return absolute(given or configuration.DEFAULT_STATE, self.root)

    @property
    def model(self) -> Model:
        """The section `model`. Raises ConfigurationError where mlp.yaml has none."""
        if self.config.model is None:
            raise ConfigurationError(
                "mlp.yaml does not name the model of this project",
                fix="add to mlp.yaml:  model: {name: NAME, task: classification}",
            )
        return self.config.model

    def target(self, name: str) -> KubernetesTarget:
        """The target of that name. Raises UsageError, with those that there are."""
        targets = self.config.targets
        if name in targets:
            return targets[name]
        clusters = ", ".join(sorted(targets)) or "none"
        if name == LOCAL:
            raise UsageError(
                f"target 'local' is this machine: this needs a cluster (have: {clusters})",
                fix="mlp targets add NAME adds one; mlp doctor checks this machine",
            )
        have = ", ".join([LOCAL, *sorted(targets)])
        raise UsageError(
            f"target {name!r} is not in mlp.yaml (have: {have}){did_you_mean(name, targets)}",
            fix=f"mlp targets add {name}",
        )

    def only_target(self) -> str:
        """The name of the only target.

        Raises UsageError where there are several, ConfigurationError where there is none.
        """
        if len(self.config.targets) == 1:
            return next(iter(self.config.targets))
        if not self.config.targets:
            raise ConfigurationError("there is no target in mlp.yaml", fix="mlp targets add NAME")
        have = ", ".join(sorted(self.config.targets))
        raise UsageError(f"mlp.yaml has several targets: name one (have: {have})")


def load(
    start: Path | None = None, *, env: str | None = None, settings: Sequence[str] = ()
) -> Project:
    """The project around `start` (the working directory).

    Raises ConfigurationError where there is none, it cannot be where it is, or its mlp.yaml has
    mistakes.
    """
    start = (start or Path.cwd()).absolute()
    for folder in (start, *start.parents):
        layout = Layout(folder)
        if layout.config.is_file():
            refuse_odd(folder)
            text = layout.config.read_text(encoding="utf-8", errors="replace")
            parsed = configuration.parse(text, "mlp.yaml", env, settings)
            return Project(layout, parsed, env, tuple(settings))
    raise ConfigurationError(
        f"there is no mlp.yaml in {start} or above",
        fix="mlp init NAME makes a project; mlp init --existing adopts a repository",
    )
