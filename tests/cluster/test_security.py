"""What launching a stage may show and may do: no secret is written, no right is had in vain."""

import base64
import gzip
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

from mlp.core.launch.manifests import job as job_manifest
from mlp.core.launch.manifests import manifests
from mlp.core.launch.targets_section import KubernetesTarget
from tests.cluster.conftest import MakeRemote, Namespace, RemoteProject, await_
from tests.conftest import Recorded
from tests.unit.launch.test_manifests import ALL, SPEC

pytestmark = pytest.mark.cluster

SOURCE = Path(__file__).parents[2]
# By where each one is kept; every value is one that nothing else contains.
FROM_SECRET = {"DB_PASSWORD": "pw-of-the-database-1", "LICENSE": "license-2-of-a-solver"}
SUBMITTERS = {"CI_JOB_TOKEN": "token-of-the-submitter-3"}
IN_DOTENV = "key-in-a-dotenv-file-4"
IN_ADDRESS = "pw-of-the-tracking-server-5"

TELLTALE = """\
import os, sys, mlflow

print("environment", dict(os.environ), flush=True)
for name, value in os.environ.items():
    print(name, value, file=sys.stderr, flush=True)
mlflow.log_param("license", os.environ["LICENSE"])
mlflow.set_tag("database", os.environ["DB_PASSWORD"])
os.makedirs("shown", exist_ok=True)
sys.exit("failed with " + os.environ["LICENSE"] + " and " + os.environ["AWS_SECRET_ACCESS_KEY"])
"""
# What a process of the stage's can do where it runs.
REPORT = """\
import json, os, urllib.request

status = dict(line.split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
node = os.environ.get("RANK", "0")
if node == "0":
    json.dump(
        {
            "uid": os.getuid(),
            "no_new_privs": status["NoNewPrivs"].strip(),
            "capabilities": int(status["CapEff"], 16) | int(status["CapBnd"], 16),
            "seccomp": status["Seccomp"].strip(),
            "token": os.path.exists("/var/run/secrets/kubernetes.io"),
            "services": [name for name in os.environ if name.endswith("_SERVICE_HOST")],
        },
        open("report.json", "w"),
    )
print("reported", node, flush=True)
"""


def stage(script: str, **more: Any) -> dict[str, str]:
    """A project with one stage."""
    train = {"cmd": "python train.py", "deps": ["train.py"], **more}
    return {"dvc.yaml": json.dumps({"stages": {"train": train}}), "train.py": script}


def contents(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """A file, and what is packed in it."""
    yield name, data
    if data[:2] == b"\x1f\x8b":
        yield f"{name} unpacked", gzip.decompress(data)


def written_here(project: RemoteProject) -> Iterator[tuple[str, bytes]]:
    for path in (project.root / ".mlp").rglob("*"):
        if path.is_file():
            yield from contents(str(path), path.read_bytes())


def written_to_storage(project: RemoteProject) -> Iterator[tuple[str, bytes]]:
    import s3fs

    files = s3fs.S3FileSystem(skip_instance_cache=True)
    url = project.tool("dvc", "config", "remote.storage.url").strip()
    for name in files.find(url.removeprefix("s3://")):
        yield from contents(name, files.cat_file(name))


def written_to_mlflow(found: Recorded) -> Iterator[tuple[str, bytes]]:
    for run in found.all:
        yield f"run {run.info.run_id}", json.dumps(run.to_dictionary()).encode()
        for artifact in found.artifacts(run):
            path = found.client.download_artifacts(run.info.run_id, artifact)
            yield from contents(artifact, Path(path).read_bytes())


def written_to_cluster(namespace: Namespace, job: str) -> Iterator[tuple[str, bytes]]:
    kinds = "jobs,pods,services,events,configmaps,endpointslices,controllerrevisions"
    yield "objects", namespace.kubectl("get", kinds, "--output=yaml").encode()
    for pod in namespace.pods(job):
        name = pod["metadata"]["name"]
        yield name, namespace.kubectl("logs", name, "--all-containers").encode()


def test_no_secret_is_written_anywhere(make_remote: MakeRemote) -> None:
    secrets = [*FROM_SECRET.values(), *SUBMITTERS.values(), IN_DOTENV, IN_ADDRESS]
    secrets.append(os.environ["AWS_SECRET_ACCESS_KEY"])
    project = make_remote(stage(TELLTALE), secrets=["s3", "private"])
    namespace = project.namespace
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "private"}}
    namespace.apply({**secret, "stringData": FROM_SECRET})
    # Those for the remote are in DVC's own local settings, as people have them.
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        option, value = variable.removeprefix("AWS_").lower(), project.environ.pop(variable)
        option = option if option.startswith("secret") else "access_key_id"
        project.tool("dvc", "remote", "modify", "--local", "storage", option, value)
    config = json.loads((project.root / "mlp.yaml").read_text())
    plain = config["tracking"]["uri"]
    config["tracking"]["uri"] = plain.replace("://", f"://team:{IN_ADDRESS}@")
    project.write({".env": f"API_KEY={IN_DOTENV}\n", "mlp.yaml": json.dumps(config)})

    project.environ |= SUBMITTERS
    done = project.mlp("train", "--target", "gpu", CI="true")
    assert done.code == 6, done.err
    assert "environment" in done.err
    job = project.job()
    shown = project.mlp("jobs", "explain", job, "--json")
    logged = project.mlp("jobs", "logs", job)
    planned = project.mlp("train", "--target", "gpu", "--dry-run", "--force")
    assert "DB_PASSWORD" in logged.out, "the names are no secret"
    client = MlflowClient(tracking_uri=plain, registry_uri=plain)
    experiment = client.get_experiment_by_name(config["tracking"]["experiment"])
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 2, "the pipeline and its stage"
    places = [
        ("output", "".join(d.out + d.err for d in (done, shown, logged, planned)).encode()),
        *written_here(project),
        *written_to_storage(project),
        *written_to_mlflow(Recorded(client, list(runs))),
        *written_to_cluster(namespace, job),
    ]
    assert any("bundles" in name for name, _ in places)
    assert any("failed.json" in name for name, _ in places)
    assert any("log.txt" in name for name, _ in places)
    # mlp.yaml itself is the user's, and travels; no address with a password belongs into it.
    leaks = {
        (name, value)
        for name, data in places
        for value in secrets
        if leaked(data, value) and not (value == IN_ADDRESS and in_users_file(name))
    }
    assert not leaks


def leaked(data: bytes, value: str) -> bool:
    return value.encode() in data or base64.b64encode(value.encode()) in data


def in_users_file(name: str) -> bool:
    return "bundles/" in name


def kubeconfig_of(namespace: Namespace, account: str, place: Path) -> Path:
    """A kubeconfig with the token of a ServiceAccount and no other right."""
    view = json.loads(
        namespace.kubectl("config", "view", "--raw", "--minify", "--flatten", "--output=json")
    )
    token = namespace.kubectl("create", "token", account).strip()
    view["users"] = [{"name": account, "user": {"token": token}}]
    view["contexts"][0]["context"]["user"] = account
    path = place / "kubeconfig-of-a-user"
    path.write_text(json.dumps(view))
    return path


def test_the_least_role_is_enough_and_pods_have_no_rights(
    make_remote: MakeRemote, tmp_path: Path
) -> None:
    project = make_remote(stage(REPORT, outs=["report.json"]))
    namespace = project.namespace
    namespace.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "mlp"}})
    text = (SOURCE / "docs" / "role.yaml").read_text().replace("NAMESPACE", namespace.name)
    namespace.kubectl("apply", "--filename=-", stdin=text)
    kubeconfig = str(kubeconfig_of(namespace, "mlp", tmp_path))
    project.environ["KUBECONFIG"] = kubeconfig
    refused = subprocess.run(
        ["kubectl", "--namespace", namespace.name, "get", "secrets"],
        env=os.environ | {"KUBECONFIG": kubeconfig},
        capture_output=True,
    )
    assert b"forbidden" in refused.stderr, "it is really not the administrator"

    done = project.mlp("train", "--target", "gpu", "--nodes", "2", CI="true")
    assert done.code == 0, done.err
    assert json.loads((project.root / "report.json").read_text()) == {
        "uid": 1000,
        "no_new_privs": "1",
        "capabilities": 0,
        "seccomp": "2",
        "token": False,
        "services": ["KUBERNETES_SERVICE_HOST"],
    }
    job = project.job()
    assert [entry["name"] for entry in project.mlp("jobs", "list", "--json").document["jobs"]] == [
        job
    ]
    assert "reported 0" in project.mlp("jobs", "logs", job).out
    explained = project.mlp("jobs", "explain", job)
    assert (explained.code, "done" in explained.out) == (0, True), explained.err
    again = project.mlp("train", "--target", "gpu", "--nodes", "3", "--force", "--detach")
    assert again.code == 0, again.err
    [other] = set(namespace.jobs()) - {job}
    cancelled = project.mlp("jobs", "cancel", other)
    assert cancelled.code == 0, cancelled.err
    await_(lambda: namespace.jobs() == [job], "the end of the other")
    namespace.kubectl("delete", "--filename=-", stdin=text)


def test_all_that_was_made_for_a_job_goes_with_it(make_remote: MakeRemote) -> None:
    project = make_remote(stage(REPORT, outs=["report.json"]), ttl="5s")
    done = project.mlp("train", "--target", "gpu", "--nodes", "2")
    assert done.code == 0, done.err
    gone = "jobs,pods,services,endpointslices"
    await_(lambda: project.namespace.get(gone)["items"] == [], "the end of all")
    assert project.tool("dvc", "status", "--json").strip() == "{}"


def test_code_that_was_exchanged_on_its_way_does_not_run(make_remote: MakeRemote) -> None:
    import s3fs

    project = make_remote(stage("print('mine')\n"), patch={"spec": {"suspend": True}})
    detached = project.mlp("train", "--target", "gpu", "--detach")
    assert detached.code == 0, detached.err
    job = project.job()
    url = project.tool("dvc", "config", "remote.storage.url").strip().removeprefix("s3://")
    files = s3fs.S3FileSystem(skip_instance_cache=True)
    [bundle] = files.find(f"{url}/mlp/bundles")
    files.pipe_file(bundle, gzip.compress(b"other code"))
    namespace = project.namespace
    namespace.kubectl("patch", "job", job, "--patch", json.dumps({"spec": {"suspend": False}}))
    await_(lambda: namespace.get("job", job)["status"].get("failed"), "its refusal")
    why = project.mlp("jobs", "explain", job, "--json").document
    assert why["state"] == "failed"
    assert "its SHA-256 is" in why["reason"]
    assert "mine" not in project.mlp("jobs", "logs", job).out


def test_the_api_server_takes_a_job_with_all_that_a_target_can_ask_for(
    namespace: Namespace,
) -> None:
    target = KubernetesTarget.model_validate({**ALL, "namespace": namespace.name})
    made = manifests(SPEC, target)
    taken = namespace.kubectl(
        "apply", "--dry-run=server", "--filename=-", stdin=yaml.safe_dump_all(plain(made))
    )
    assert taken.count("created (server dry run)") == 2
    template = job_manifest(SPEC, target)["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", **template}
    pod["metadata"] = {**pod["metadata"], "name": "one"}
    # Admission of the pod itself: among others pod security "restricted".
    taken = namespace.kubectl(
        "apply", "--dry-run=server", "--filename=-", stdin=yaml.safe_dump_all(plain([pod]))
    )
    assert "created (server dry run)" in taken


def plain(documents: list[Any]) -> Any:
    return json.loads(json.dumps(documents))
