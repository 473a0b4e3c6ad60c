"""Where the runs of a project are: in the tracking store of mlp.yaml, or in one that it had before.

The run directories of this machine know: each header names the store of its run.
"""

import os
import shlex
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mlp.adapters import tracking
from mlp.core.checkup.health import Check, CheckVerdict
from mlp.core.errors import UsageError
from mlp.core.runs import tracking_uri
from mlp.core.runs.environment import TRACKING_URI
from mlp.core.runs.recorded_run import RunRecord
from mlp.core.secrets import mask_urls
from mlp.flows.project import Project
from mlp.flows.runs import recording

_SHORTEST_ID = 4
_ENV_OF_ITS_OWN = "mlp runs reproduce"  # its --env is the Python environment


@dataclass(frozen=True, slots=True)
class OtherStore:
    """A store that runs of this project are in, and that is not where commands look for them."""

    uri: str
    env: str | None
    """The environment of mlp.yaml that its runs were made with."""
    other_env: bool
    """Whether that is another one than now."""
    runs: Sequence[str]
    """Their ids, the newest first, as far as their directories are kept."""
    undelivered: int = 0
    """How many of them it does not have yet."""

    def __str__(self) -> str:
        """How many runs are there, as a sentence."""
        runs = "1 run" if len(self.runs) == 1 else f"{len(self.runs)} runs"
        if self.undelivered:
            left = "it is" if len(self.runs) == 1 else f"{self.undelivered} of them are"
            return f"{runs} of this project made for {self.uri}, where {left} not delivered yet"
        return f"{runs} of this project {'is' if len(self.runs) == 1 else 'are'} in {self.uri}"

    def find(self, reference: str) -> str | None:
        """The run of this store that an id or its beginning means."""
        if len(reference) < _SHORTEST_ID:
            return None
        return next((run for run in self.runs if run.startswith(reference)), None)

    def command(self, command: str) -> str:
        """`command`, so that it looks there."""
        if self.other_env and self.env is not None:
            if command.startswith(_ENV_OF_ITS_OWN):
                return f"MLP_ENV={shlex.quote(self.env)} {command}"
            return f"{command} --env {shlex.quote(self.env)}"
        if os.environ.get(TRACKING_URI):  # which goes over what mlp.yaml and --config say
            return f"{TRACKING_URI}={shlex.quote(self.uri)} {command}"
        return f"{command} --config {shlex.quote(f'tracking.uri={self.uri}')}"


def others(project: Project, uri: str | None = None) -> list[OtherStore]:
    """The other stores, that of the newest run first; `uri` in place of the project's own."""
    own = _as_recorded(project, uri or project.tracking_uri)
    runs: dict[tuple[str, str | None], list[tuple[float, str, bool]]] = defaultdict(list)
    for header, run in recording.headers(project.layout):
        if header.tracking_uri and header.tracking_uri != own:
            delivered = recording.delivery(run).complete
            entry = (header.started, run.run_id, delivered)
            runs[header.tracking_uri, header.env].append(entry)
    newest_first = sorted(runs.items(), key=lambda entry: max(entry[1]), reverse=True)
    return [
        OtherStore(
            store,
            env,
            env != project.env,
            tuple(run_id for _, run_id, _ in sorted(found, reverse=True)),
            sum(not delivered for _, _, delivered in found),
        )
        for (store, env), found in newest_first
    ]


def find_run(project: Project, reference: str, command: str) -> RunRecord:
    """The run that `reference` means (an id, its beginning, a name, `last`), with its stages.

    `command` is what asks. Raises UsageError where it means none, or several; it says where this
    project has other runs.
    """
    try:
        return tracking.find_run(project.tracking_uri, project.config.experiment, reference)
    except tracking.NoSuchRun as e:
        elsewhere = others(project)
        if not elsewhere:
            raise
        for store in elsewhere:
            if run := store.find(reference):
                raise UsageError(
                    f"run {run[:8]} was made for {store.uri}, and this command looks in"
                    f" {_as_recorded(project, project.tracking_uri)}",
                    fix=store.command(command),
                ) from e
        raise UsageError(
            e.message,
            cause="\n".join(map(str, elsewhere)),
            fix=elsewhere[0].command("mlp runs list"),
        ) from e


def checks(project: Project, target: str | None = None) -> Iterator[Check]:
    """Whether all runs are where commands look for them, those of pods of `target` too."""
    for store in others(project):
        if not store.other_env:  # environments may have stores of their own
            fix = store.command("mlp runs list")
            yield Check("runs", CheckVerdict.NOTE, str(store), fix=f"{fix}   shows them")
    pods = project.target(target).tracking_uri if target is not None else None
    if pods is not None and tracking_uri.is_file(project.tracking_uri):
        here = _as_recorded(project, project.tracking_uri)
        yield Check(
            "tracking",
            CheckVerdict.NOTE,
            f"pods of {target} record at {mask_urls(pods)}, and this machine records in {here}: no"
            " place has all of a run",
            fix=f"tracking: {{uri: {mask_urls(pods)}}} in mlp.yaml, or the address at which this"
            " machine reaches that server",
        )


def _as_recorded(project: Project, uri: str) -> str:
    """An address as a run's header has it."""
    return mask_urls(tracking_uri.relative(uri, project.root))
