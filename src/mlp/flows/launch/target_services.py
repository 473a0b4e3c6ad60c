"""What this machine and the pods of a new target share: DVC remote, credentials, MLflow server."""

import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from mlp.adapters import cluster, data, tracking
from mlp.adapters.base import machine
from mlp.adapters.cluster import Cluster
from mlp.core.errors import ConfigurationError, RemoteError, UsageError
from mlp.core.launch import addresses
from mlp.core.runs import tracking_uri
from mlp.flows.launch.target_proposals import Choices, Proposal, WantedTarget, given, told
from mlp.flows.project import Project

# Secrets that are probably meant for jobs: by their names, for nobody looks into them.
_FOR_JOBS = re.compile(r"s3|aws|minio|gcs|azure|dvc|mlflow", re.IGNORECASE)
_FOR_DATA = re.compile(r"s3|aws|minio|gcs|azure|dvc", re.IGNORECASE)
# By the scheme of a remote: the Secret that we would make for it, and the sets of variables, the
# first complete one of which is what it is made of.
_CREDENTIALS = {
    "s3": (
        "s3-credentials",
        (
            ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
            ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
        ),
    ),
    "azure": (
        "azure-credentials",
        (
            ("AZURE_STORAGE_CONNECTION_STRING",),
            ("AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_KEY"),
        ),
    ),
}
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")


# --- the DVC remote -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SharedRemote:
    """The remote that this machine and the pods use; `new` where it is to be added."""

    url: str
    endpoint: str | None
    package: str | None
    new: data.NewRemote | None = None

    @property
    def scheme(self) -> str:
        """What kind of storage it is, as in s3."""
        return self.url.partition("://")[0]

    @property
    def variables(self) -> dict[str, str]:
        """What pods need in their environment beside credentials, for what is not DVC's."""
        if self.endpoint is None or addresses.is_this_machine(self.endpoint):
            return {}
        region = os.environ.get("AWS_DEFAULT_REGION") or os.environ.get("AWS_REGION")
        known = {"AWS_DEFAULT_REGION": region} if region else {}
        return {"AWS_ENDPOINT_URL": self.endpoint, **known}


def remote(project: Project, wanted: WantedTarget, choices: Choices) -> SharedRemote | None:
    """The remote of the new target; None where it has to be named and is not."""
    root = data.root(project.root)
    if root is None:
        raise ConfigurationError("there is no DVC project here", fix="dvc init")
    default = data.default_remote(root)
    if wanted.remote is None and default is not None and not default.local:
        if wanted.endpoint is not None:
            raise UsageError(
                f"--endpoint is for a new remote, and DVC has {default.name} ({default.url})",
                fix=f"dvc remote modify {default.name} endpointurl {wanted.endpoint}",
            )
        reason = f"DVC's default remote, {default.name}"
        choices.note(Proposal("remote", default.url, reason))
        endpoint = default.endpoint or _endpoint(default.url)
        return SharedRemote(default.url, endpoint, default.package)
    reason = (
        "the data and the code of a job go there: DVC has no default remote yet"
        if default is None
        else f"pods cannot reach DVC's default remote, {default.url}"
    )
    asked = Proposal("remote", None, f"{reason}; as in s3://BUCKET/PATH", required=True)
    url = choices.take(asked if wanted.remote is None else given("remote", wanted.remote))
    if not url:
        return None
    endpoint = _chosen_endpoint(url, wanted, choices)
    new = data.new_remote(root, url, endpoint)
    return SharedRemote(url, endpoint, data.package_for(url), new)


def _endpoint(url: str) -> str | None:
    """The S3 server that this machine's variables name, where the remote is on S3."""
    found = (os.environ[name] for name in _ENDPOINTS if os.environ.get(name))
    return next(found, None) if url.startswith("s3://") else None


def _chosen_endpoint(url: str, wanted: WantedTarget, choices: Choices) -> str | None:
    if not url.startswith("s3://"):
        if wanted.endpoint is not None:
            raise UsageError(f"--endpoint is the address of an S3 server, and {url} is none")
        return None
    if wanted.endpoint is not None:
        asked = given("endpoint", wanted.endpoint)
    elif here := _endpoint(url):
        asked = Proposal("endpoint", here, "of the S3 server: AWS_ENDPOINT_URL, as it is here")
    else:
        asked = Proposal("endpoint", None, "of the S3 server, where it is not Amazon's own")
    endpoint: str | None = choices.take(asked)
    if endpoint and addresses.is_this_machine(endpoint):
        raise ConfigurationError(
            f"pods cannot reach {endpoint}: for them it is the pod itself",
            fix=f"--endpoint {_as_pods_see(endpoint, machine.address_towards(''))}",
        )
    return endpoint or None


def _as_pods_see(address: str, host: str) -> str:
    port = urlsplit(address).port
    return f"{urlsplit(address).scheme}://{host}{f':{port}' if port else ''}"


# --- credentials --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A Secret to be made of variables of this machine; their values are in no plan."""

    name: str
    namespace: str
    context: str | None
    variables: Sequence[str]

    @property
    def command(self) -> str:
        """The same by kubectl; the shell fills the values in."""
        context = f" --context {shlex.quote(self.context)}" if self.context else ""
        literals = " ".join(f'--from-literal={each}="${each}"' for each in self.variables)
        namespace = f"--namespace {self.namespace}{context}"
        return f"kubectl create secret generic {self.name} {namespace} {literals}"


def secrets(
    remote: SharedRemote | None,
    wanted: WantedTarget,
    found: cluster.Secrets | None,
    namespace: tuple[str, str | None],
    choices: Choices,
) -> tuple[list[str], NewSecret | None]:
    """The Secrets that pods get as variables, and the one among them that is to be made."""
    where = f"namespace {namespace[0]}"
    names = list(choices.take(_likely(wanted, found), where) or ())
    usual, sets = _CREDENTIALS.get(remote.scheme if remote else "", ("", ()))
    complete = (each for each in sets if all(os.environ.get(name) for name in each))
    variables = next(complete, ())
    if wanted.make_secret is not None:
        _require_makeable(wanted.make_secret, remote, variables, found)
        asked = given("make_secret", wanted.make_secret)
    elif not variables or wanted.secrets is not None or any(map(_FOR_DATA.search, names)):
        return names, None
    else:
        reason = f"of {' and '.join(variables)}, as they are here; pods get it as variables"
        asked = Proposal("make_secret", usual, reason)
    made = choices.take(asked)
    if not made:
        return names, None
    return [*names, made], NewSecret(made, *namespace, variables)


def _likely(wanted: WantedTarget, found: cluster.Secrets | None) -> Proposal:
    have = found.values if found else ()
    if wanted.secrets is not None:
        return given("secrets", list(wanted.secrets), found.values if found else None)
    if wanted.make_secret is not None:
        return Proposal("secrets", [], "one is made", have, settled=True)
    if found is None:
        reason = "you may not list Secrets: --secret NAME for what pods need for data and MLflow"
        return Proposal("secrets", [], reason, settled=True)
    likely = [name for name in have if _FOR_JOBS.search(name)]
    reason = "by name credentials of data or MLflow; pods get them as variables"
    reason = reason if likely else "none has a name that says that it is for data or MLflow"
    return Proposal("secrets", likely, reason, have, settled=not have, known=have)


def _require_makeable(
    name: str,
    remote: SharedRemote | None,
    variables: Sequence[str],
    found: cluster.Secrets | None,
) -> None:
    if found is not None and name in found.values:
        raise ConfigurationError(
            f"there is a Secret {name!r} already", fix=f"--secret {name} takes it as it is"
        )
    if not variables:
        sets = _CREDENTIALS.get(remote.scheme if remote else "", ("", ()))[1]
        usual = " and ".join(sets[-1]) if sets else ""
        raise ConfigurationError(
            f"a Secret is made of {usual}, which are not set here"
            if usual
            else "a Secret is made for remotes at s3:// and azure://, and this is none",
            fix=f"export {' '.join(sets[-1])}" if sets else "kubectl create secret; --secret NAME",
        )


def make_secret(connection: Cluster, secret: NewSecret) -> None:
    """Make it of what the variables hold now."""
    try:
        values = {name: os.environ[name] for name in secret.variables}
        cluster.create_secret(connection, secret.name, values)
    except cluster.ForbiddenError as e:
        raise ConfigurationError(
            f"you may not make Secrets in namespace {secret.namespace}",
            fix=f"let somebody who may: {secret.command}   and then --secret {secret.name}",
            cause=e.cause,
        ) from e


# --- MLflow -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SharedTracking:
    """The tracking server: as the pods see it where that differs from how this machine does, and
    what the project's address becomes, where it changes."""

    of_target: str | None
    of_project: str | None


def tracking_server(
    project: Project, wanted: WantedTarget, connection: Cluster, choices: Choices
) -> SharedTracking:
    """One server for this machine and the pods, wherever there is one that both can reach."""
    own = project.tracking_uri
    only_here = tracking_uri.is_file(own)
    here = machine.address_towards(urlsplit(connection.address).hostname or "")
    uri = choices.take(_asked_server(wanted, own, connection, here))
    if uri and addresses.is_this_machine(uri):
        seen = _as_pods_see(uri, here)
        raise ConfigurationError(
            f"pods cannot reach {uri}: for them it is the pod itself",
            fix=f"{addresses.mlflow_server(here, urlsplit(seen).port or 5000)}"
            f"\n       and --tracking-uri {seen}",
        )
    if not only_here or not uri:
        if wanted.project_tracking_uri is not None:
            raise UsageError(
                "--project-tracking-uri goes with --tracking-uri: one server, two addresses"
                if only_here
                else f"--project-tracking-uri is for runs in a file, and these are at {own}",
                fix="set `tracking.uri` in mlp.yaml",
            )
        return SharedTracking(uri if uri != own else None, None)
    mine: str | None = choices.take(_asked_own(wanted, uri))
    return SharedTracking(uri if uri != mine else None, mine or None)


def _asked_server(wanted: WantedTarget, own: str, connection: Cluster, here: str) -> Proposal:
    if wanted.tracking_uri is not None:
        return given("tracking_uri", wanted.tracking_uri)
    if own.startswith(("http://", "https://")) and not addresses.is_this_machine(own):
        return Proposal("tracking_uri", None, f"the project's: {own}", (own,), settled=True)
    services = told(lambda: cluster.services(connection)) or {}
    found = [
        f"http://{name}.{connection.namespace}:{ports[0]}"
        for name, ports in services.items()
        if "mlflow" in name and ports
    ]
    if len(found) == 1:
        return Proposal("tracking_uri", found[0], "a Service of the namespace", found)
    reason = "pods cannot reach the project's: their metrics arrive with the outputs"
    hint = (
        f"this starts a server that pods reach at http://{here}:5000, in another terminal:\n"
        f"  {addresses.mlflow_server(here)}"
    )
    return Proposal("tracking_uri", None, reason, found, hint=hint)


def _asked_own(wanted: WantedTarget, uri: str) -> Proposal:
    """How this machine reaches the server that pods reach at `uri`."""
    if wanted.project_tracking_uri is not None:
        return given("tracking.uri", wanted.project_tracking_uri)
    try:
        tracking.probe(uri)
    except RemoteError:
        hint = (
            f"pods record at {uri}, and what runs here stays where it is recorded now, unless"
            " --project-tracking-uri names the same server as this machine reaches it"
        )
        return Proposal("tracking.uri", None, f"this machine does not reach {uri}", hint=hint)
    reason = "this machine reaches it too: one server for all runs"
    return Proposal("tracking.uri", uri, reason, settled=True)
