"""A stage becomes a job of a cluster: code and inputs go to the DVC remote, the Job is made.

Every step can be done again: what is there already is found, so that a submission that was killed
is taken up where it stopped, and two that are the same become one job.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlp.adapters import bundle, cluster, data, git
from mlp.adapters.base import statefile
from mlp.adapters.bundle import Bundle
from mlp.adapters.cluster import Cluster, ExistsError, Object, Phase
from mlp.core.errors import ConfigurationError, RemoteError
from mlp.core.launch import job_spec as jobs
from mlp.core.launch.job_spec import JobSpec
from mlp.core.launch.launch import Launch
from mlp.core.launch.manifests import job as job_manifest
from mlp.core.launch.manifests import service as service_manifest
from mlp.core.launch.targets_section import KubernetesTarget
from mlp.core.runs.run_header import RunHeader

_TRIES = 3


@dataclass(frozen=True, slots=True)
class JobPlace:
    """Where the stage runs here: the project, the repository around it, the stage's directory."""

    root: Path
    top: Path
    workdir: Path

    @classmethod
    def of(cls, root: Path, workdir: Path) -> "JobPlace":
        """The place of a stage of the project at `root`."""
        return cls(root, git.repository(root) or root, workdir)


@dataclass(frozen=True, slots=True)
class Shipment:
    """What a job needs from here: code, and inputs that DVC has."""

    commands: Sequence[str]
    bundle: Bundle
    inputs: data.Inputs
    remote: Mapping[str, str]


def pack(place: JobPlace, stage: str, target: KubernetesTarget) -> Shipment:
    """Gather what the stage needs. Raises ConfigurationError for what cannot travel."""
    from mlp.core.quantities import amount

    with data.opened(place.root):  # once: each time costs a tenth of a second
        inputs = data.inputs(place.root, stage)
        remote = data.remote_settings(place.root)
        commands = next(s.command for s in data.stages(place.root) if s.name == stage)
    for name in inputs.outside:
        if not Path(name).is_relative_to(place.top):
            raise ConfigurationError(
                f"{stage} reads {name}, which is not in the repository: pods cannot have it",
                fix="put it into the repository, or into the image or a volume of the target",
            )
    strange = [command for command in commands if not isinstance(command, str)]
    if strange:
        raise ConfigurationError(
            f"a command of {stage} is {strange[0]!r}, which is not text", fix="put it in quotes"
        )
    files = git.shipped_files(place.top, git.ignored(place.root))
    listed = set(files)
    for name in inputs.plain:  # it may be ignored by git, and is needed all the same
        found = place.root / name
        for path in [found] if found.is_file() else sorted(p for p in found.rglob("*")):
            inner = os.path.relpath(path, place.top)
            if inner not in listed and not inner.startswith("..") and not path.is_dir():
                files.append(inner)
    memo = place.root / ".mlp" / "bundles"
    made = bundle.make(place.top, files, memo, int(amount(target.max_bundle)))
    return Shipment(commands, made, inputs, remote)


def describe(
    place: JobPlace,
    shipment: Shipment,
    target: KubernetesTarget,
    header: RunHeader,
    stage: str,
    launch: Launch,
) -> JobSpec:
    """The stage as a job of the run with that header."""
    commands = shipment.commands
    workdir = os.path.relpath(place.workdir, place.top)
    identity = {
        "bundle": shipment.bundle.content,
        "inputs": dict(shipment.inputs.tracked),
        "commands": commands,
        "workdir": workdir,
        "launch": launch.to_dict(),
        "target": target.model_dump(mode="json"),
    }
    return JobSpec(
        name=jobs.job_name(header.project, stage, identity),
        project=header.project,
        stage=stage,
        commands=commands,
        workdir=workdir,
        root=os.path.relpath(place.root, place.top),
        launch=launch,
        inputs=tuple(sorted(shipment.inputs.tracked)),
        bundle=shipment.bundle.digest,
        image=target.image,
        run_id=header.run_id,
        experiment=header.experiment,
        remote=shipment.remote,
        states=states(place.root, stage, shipment.inputs),
        rendezvous_timeout=target.rendezvous_timeout,
        storage_patience=target.storage_patience,
        checkpoints=_checkpoints(target, shipment.remote),
        tracking_uri=_without_login(target.tracking_uri),
        show_all_ranks=header.launching.show_all_ranks,
    )


def _without_login(address: str | None) -> str | None:
    """The Job may be read by many: pods have MLFLOW_TRACKING_USERNAME and _PASSWORD of a Secret."""
    return None if address is None else re.sub(r"://[^/@\s]*@", "://", address)


def states(root: Path, stage: str, inputs: data.Inputs) -> dict[str, str]:
    """A digest of each input of a stage and of its params, as they are now.

    The same in a clone that has only the versions of DVC's data and not yet the data.
    """
    tracked = inputs.tracked
    others = {
        name: value
        for name, value in data.input_states(root, stage).items()
        if name not in tracked and not any(path.startswith(f"{name}/") for path in tracked)
    }
    return {name: jobs.state(value) for name, value in {**others, **tracked}.items()}


def plan_text(spec: JobSpec, shipment: Shipment, target: str) -> str:
    """What is going to be made and sent, for people."""
    bundle = shipment.bundle
    biggest = ", ".join(f"{name} {size / 1e3:.1f} kB" for name, size in bundle.largest[:3])
    launch = spec.launch
    gang = f"{launch.nodes} nodes x {launch.processes_per_node} processes, {launch.strategy}"
    lines = [
        f"{spec.stage} on {target}: {gang if launch.world_size > 1 else '1 process'}",
        f"  image  {spec.image}",
        f"  code   {bundle.files} files, {bundle.size / 1e3:.1f} kB packed (biggest: {biggest})",
    ]
    if spec.inputs:
        size = f"{shipment.inputs.size / 1e6:.1f} MB"
        lines.append(f"  data   {', '.join(spec.inputs)}, {size}: what the remote lacks is pushed")
    secret = [name for name, why in bundle.left_out.items() if "secret" in why]
    if secret:
        lines.append(f"  stays here, for it looks like a secret: {', '.join(secret)}")
    return "\n".join(lines)


def _checkpoints(target: KubernetesTarget, remote: Mapping[str, str]) -> str | None:
    """Below what the job's checkpoints lie."""
    if target.checkpoints is None:
        return remote["url"].rstrip("/") if remote["url"].startswith("s3://") else None
    if "://" in target.checkpoints:
        return target.checkpoints.rstrip("/")
    return jobs.POD_CHECKPOINTS


def push(place: JobPlace, shipment: Shipment, note: Callable[[str], None]) -> None:
    """Bring to the DVC remote what it lacks; what went there from here before is not asked for."""
    known = Pushed(place.root, shipment.remote["url"])
    digest = shipment.bundle.digest
    if digest not in known:
        storage = data.storage(place.root)
        name = jobs.bundle_path(digest)
        if not storage.exists(name):
            note(f"pushing the code: {shipment.bundle.files} files, {shipment.bundle.size} bytes")
            storage.put(shipment.bundle.path, name)
        known.add(digest)
    missing = [path for path, version in shipment.inputs.tracked.items() if version not in known]
    if missing:
        count = data.push(place.root, missing)
        if count:
            note(f"pushed {count} files of {', '.join(missing)}")
        known.add(*(shipment.inputs.tracked[path] for path in missing))


class Pushed:
    """The digests that are known to be in a remote: `.mlp/pushed.json`."""

    def __init__(self, root: Path, url: str) -> None:
        self._file = root / ".mlp" / "pushed.json"
        self._url = url

    def __contains__(self, digest: object) -> bool:
        return digest in self._read().get(self._url, [])

    def add(self, *digests: str) -> None:
        """Remember digests."""
        known = self._read()
        known[self._url] = sorted({*known.get(self._url, []), *digests})
        statefile.write(self._file, known)

    def forget(self) -> None:
        """The remote lacks something after all."""
        statefile.write(self._file, {**self._read(), self._url: []})

    def _read(self) -> dict[str, list[str]]:
        return statefile.read(self._file)


@dataclass(frozen=True, slots=True)
class Submitted:
    """A job in the cluster. `spec` is the job's own, of another run where `joined` is true."""

    spec: JobSpec
    uid: str
    joined: bool


def submit(
    connection: Cluster, spec: JobSpec, target: KubernetesTarget, user: str, *, anew: bool
) -> Submitted:
    """Make the job, or find the one that does this work already.

    One that has failed is made again, and with `anew` one that is done too; but never one of this
    same run: its end is what the run waits for.
    """
    for _ in range(_TRIES):
        try:
            made = cluster.create_job(connection, job_manifest(spec, target, user))
        except ExistsError:
            found = _existing(connection, spec, anew)
            if found is None:
                continue
            made = found
        uid = made["metadata"]["uid"]
        theirs = cluster.spec_of(made)
        if theirs.launch.nodes > 1:
            cluster.create_service(connection, service_manifest(theirs, target, uid))
        return Submitted(theirs, uid, theirs.run_id != spec.run_id)
    raise RemoteError(f"job {spec.name} keeps appearing and going", fix="try again")


def running(connection: Cluster, spec: JobSpec) -> list[tuple[str, str]]:
    """The jobs of the same stage that have not ended: name, and who submitted it."""
    selector = ",".join(
        f"{name}={value}"
        for name, value in (
            (jobs.LABEL_MANAGED_BY, jobs.MANAGED_BY),
            (jobs.LABEL_PROJECT, jobs.label(spec.project)),
            (jobs.LABEL_STAGE, jobs.label(spec.stage)),
        )
    )
    return [
        (job["metadata"]["name"], job["metadata"]["annotations"].get(jobs.ANNOTATION_USER, ""))
        for job in cluster.list_jobs(connection, selector)
        if not cluster.state_of(job).ended
    ]


def _existing(connection: Cluster, spec: JobSpec, anew: bool) -> Object | None:
    """The job of that name, if it is one to wait for; else None, and the name is free."""
    try:
        found = cluster.get_job(connection, spec.name)
    except cluster.NotFoundError:
        return None
    state = cluster.state_of(found)
    of_this_run = cluster.spec_of(found).run_id == spec.run_id
    useless = state.phase == Phase.FAILED or (anew and state.phase == Phase.COMPLETE)
    if state.phase != Phase.GONE and (of_this_run or not useless):
        return found
    cluster.delete_job(connection, spec.name, wait=True)
    return None
