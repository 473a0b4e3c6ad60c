"""A target is looked at, proposed and probed on a real cluster, with the least Role too."""

import http.server
import json
import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlp.adapters import cluster
from mlp.cli.main import call
from mlp.core.checkup import probe_job
from mlp.core.checkup.health import CheckVerdict
from mlp.core.launch.targets_section import Build
from mlp.flows import project as projects
from mlp.flows.checkup import target_checks
from tests.cluster.conftest import RESTRICTED, Namespace
from tests.conftest import Make, Project

pytestmark = pytest.mark.cluster

ROLE = Path(__file__).parents[2] / "docs" / "role.yaml"
ABSENT = "localhost:1/absent:1"


def target(inside: Namespace, **more: Any) -> dict[str, Any]:
    return {
        "kind": "kubernetes",
        "namespace": inside.name,
        "image": ABSENT,
        "resources": {"gpu": 1, "cpu": "100m", "memory": "256Mi"},
        **more,
    }


@pytest.fixture
def checks(make_project: Make, namespace: Namespace) -> Any:
    """Checks of a target with these settings, by name."""

    def check(nodes: int = 1, deep: bool = False, **more: Any) -> dict[str, Any]:
        config = {"project": "demo", "targets": {"gpu": target(namespace, **more)}}
        made = make_project({"mlp.yaml": json.dumps(config)}, commit=False)
        with_remote(made, f"s3://{namespace.name}/data")
        loaded = projects.load(made.root)
        found = target_checks.check(loaded, "gpu", nodes, deep)
        return {each.name: each for each in found}

    return check


def with_remote(project: Project, url: str) -> None:
    endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
    settings = f"[core]\n    remote = s3\n['remote \"s3\"']\n    url = {url}\n"
    settings += f"    endpointurl = {endpoint}\n    region = us-east-1\n" if endpoint else ""
    (project.root / ".dvc" / "config").write_text(settings)


@pytest.fixture(scope="module")
def bucket(namespace: Namespace) -> Iterator[str]:
    """A bucket, named as the namespace is, and a Secret with its credentials there."""
    from s3fs import S3FileSystem

    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    storage = S3FileSystem(endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    storage.mkdir(namespace.name)
    values = (f"--from-literal={key}={os.environ[key]}" for key in keys)
    namespace.kubectl("create", "secret", "generic", "s3-credentials", *values)
    yield namespace.name
    assert storage.find(namespace.name) == []  # a probe leaves nothing
    storage.rmdir(namespace.name)


# --- looking ------------------------------------------------------------------------------------


def test_a_target_in_order_has_no_problem(checks: Any) -> None:
    found = checks(2)
    wrong = {name for name, check in found.items() if check.verdict == CheckVerdict.PROBLEM}
    assert wrong == set()
    assert {"cluster", "namespace", "rights", "quota", "limits", "nodes", "remote"} <= set(found)
    assert found["cluster"].message.startswith("v1.")


def test_what_the_cluster_does_not_have_is_named_with_what_it_has(
    checks: Any, namespace: Namespace
) -> None:
    namespace.apply(claim("data", "ReadWriteMany"))
    found = checks(
        secrets=["nope"],
        volumes=[{"claim": "dta", "path": "/data"}],
        priority_class="system-node-critica",
        resources={"gpu": 1000},
    )
    messages = {name: c.message for name, c in found.items() if c.verdict == CheckVerdict.PROBLEM}
    assert "no Secret 'nope'" in messages["secrets"]
    assert "did you mean 'data'?" in messages["claims"]
    assert "did you mean 'system-node-critical'?" in messages["priority"]
    assert "no node can hold one pod (it asks for 1000 nvidia.com/gpu" in messages["nodes"]


def test_a_namespace_that_is_not_there_is_a_problem(checks: Any) -> None:
    found = checks(namespace="mlp-not-there")
    assert found["namespace"].verdict == CheckVerdict.PROBLEM
    assert "kubectl create namespace mlp-not-there" in found["namespace"].fix
    assert "quota" not in found


def test_a_queue_without_kueue_is_a_problem(checks: Any, namespace: Namespace) -> None:
    if cluster.queues(namespace.cluster) is not None:
        pytest.skip("Kueue is installed here")
    assert "Kueue is not installed" in checks(queue="q")["queue"].message


def claim(name: str, mode: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {
            "accessModes": [mode],
            "resources": {"requests": {"storage": "1Mi"}},
            **spec,
        },
    }


@pytest.fixture
def waiting_class() -> Iterator[str]:
    """A storage class that makes no volume before a pod wants it."""
    name = f"mlp-{uuid.uuid4().hex[:8]}"
    outside = Namespace("default")
    outside.apply(
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": name},
            "provisioner": "example.com/none",
            "volumeBindingMode": "WaitForFirstConsumer",
        }
    )
    yield name
    outside.kubectl("delete", "storageclass", name)


def test_a_claim_that_waits_for_a_pod_is_right_and_one_node_at_a_time_is_for_one_node(
    checks: Any, namespace: Namespace, waiting_class: str
) -> None:
    namespace.apply(claim("waits", "ReadWriteOnce", storageClassName=waiting_class))
    namespace.apply(claim("lost", "ReadWriteMany", storageClassName="no-such-class"))
    assert checks(1, checkpoints="waits")["claims"].verdict == CheckVerdict.OK
    two = checks(2, checkpoints="waits")["claims"]
    assert (two.verdict, "one node at a time" in two.message) == (CheckVerdict.PROBLEM, True)
    lost = checks(1, checkpoints="lost")["claims"]
    assert (lost.verdict, "Pending" in lost.message) == (CheckVerdict.PROBLEM, True)


def test_quota_and_limits_of_the_namespace_are_compared(checks: Any) -> None:
    name = f"mlp-{uuid.uuid4().hex[:8]}"
    made = Namespace(name)
    labelled = {"name": name, "labels": RESTRICTED}
    made.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": labelled})
    try:
        made.kubectl("create", "quota", "small", "--hard=requests.memory=300Mi")
        made.apply(
            {
                "apiVersion": "v1",
                "kind": "LimitRange",
                "metadata": {"name": "narrow"},
                "spec": {"limits": [{"type": "Container", "max": {"cpu": "50m"}}]},
            }
        )
        found = checks(2, namespace=name)
        assert "the job needs 512Mi" in found["quota"].message
        assert "at most 50m cpu" in found["limits"].message
    finally:
        made.kubectl("delete", "namespace", name, "--wait=false")


# --- the least Role -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def least(namespace: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A kubeconfig of a ServiceAccount that has the Role of the documentation, and no more."""
    namespace.kubectl("create", "serviceaccount", "mlp")
    namespace.kubectl("apply", "--filename", str(ROLE))
    yield kubeconfig(namespace, "mlp", tmp_path_factory.mktemp("least"))
    namespace.kubectl("delete", "--filename", str(ROLE))


def kubeconfig(namespace: Namespace, account: str, folder: Path) -> Path:
    """The kubeconfig that the tests have, with the account's token in place of its user's."""
    view = ("config", "view", "--raw", "--minify", "--flatten", "--output=json")
    config = json.loads(namespace.kubectl(*view))
    token = namespace.kubectl("create", "token", account, "--duration=1h")
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config))
    return path


def test_the_documented_role_is_enough(
    least: Path, checks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(least))
    found = checks(2, secrets=["any"], priority_class="system-node-critical")
    verdicts = {name: check.verdict for name, check in found.items()}
    assert verdicts == {
        "cluster": CheckVerdict.OK,
        "namespace": CheckVerdict.UNKNOWN,
        "rights": CheckVerdict.OK,
        "quota": CheckVerdict.OK,
        "limits": CheckVerdict.OK,
        "secrets": CheckVerdict.UNKNOWN,
        "priority": CheckVerdict.UNKNOWN,
        "nodes": CheckVerdict.UNKNOWN,
        "image": CheckVerdict.UNKNOWN,
        "remote": CheckVerdict.OK,
    }
    assert found["nodes"].message.startswith("cannot be known from here")


def test_rights_that_are_missing_are_listed(
    namespace: Namespace, checks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    namespace.kubectl("create", "serviceaccount", "reader")
    reading = ("--verb=get,list,watch", "--resource=pods,events,jobs.batch")
    namespace.kubectl("create", "role", "reader", *reading)
    account = f"--serviceaccount={namespace.name}:reader"
    namespace.kubectl("create", "rolebinding", "reader", "--role=reader", account)
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(namespace, "reader", tmp_path)))
    found = checks(deep=True)
    rights = found["rights"]
    assert rights.verdict == CheckVerdict.PROBLEM
    assert "missing are jobs: create, patch, delete; services: create" in rights.message
    assert "pods/log: get" in rights.message
    assert "docs/role.yaml" in rights.fix
    assert found["quota"].verdict == CheckVerdict.UNKNOWN
    assert found["pod"].message == "not tried: rights has to be right first"


# --- adding -------------------------------------------------------------------------------------


def test_a_target_is_proposed_from_what_the_cluster_has_and_passes_its_checks(
    namespace: Namespace,
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    namespace.apply(claim("shared", "ReadWriteMany"))
    namespace.kubectl("wait", "pvc/shared", "--for=jsonpath={.status.phase}=Bound", "--timeout=9m")
    namespace.kubectl("create", "secret", "generic", "minio-keys", "--from-literal=a=b")
    namespace.kubectl("create", "secret", "generic", "other", "--from-literal=a=b")
    namespace.kubectl("create", "service", "clusterip", "mlflow", "--tcp=5000")
    monkeypatch.chdir(project.root)
    config = project.root / "mlp.yaml"
    config.write_text("# ours\nproject: demo  # the name\n")
    add = ["targets", "add", "gpu", "--namespace", namespace.name, "--image", ABSENT]
    with_remote(project, "s3://bucket/data")
    assert call([*add, "--dry-run"]) == 0
    assert config.read_text() == "# ours\nproject: demo  # the name\n"
    capsys.readouterr()
    assert call([*add, "--secret", "other", "--claim", "shared", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert config.read_text().startswith("# ours\nproject: demo  # the name\n\ntargets:\n")
    assert yaml.safe_load(config.read_text())["targets"]["gpu"] == shown["section"]
    section = shown["section"]
    assert section["resources"]["gpu"] >= 1
    assert (section["checkpoints"], section["secrets"]) == ("shared", ["other"])
    assert section["tracking_uri"] == f"http://mlflow.{namespace.name}:5000"
    found = {each["key"]: each for each in shown["found"]}
    assert {"minio-keys", "other"} <= set(found["secrets"]["alternatives"])
    loaded = projects.load(project.root)
    checks = target_checks.check(loaded, "gpu", 1, deep=False)
    assert [c.message for c in checks if c.verdict == CheckVerdict.PROBLEM] == []


def test_likely_credentials_are_proposed_and_an_image_has_to_be_named(
    namespace: Namespace,
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    namespace.kubectl("create", "secret", "generic", "aws-keys", "--from-literal=a=b")
    monkeypatch.chdir(project.root)
    add = ["targets", "add", "new", "--namespace", namespace.name]
    assert call(add) == 2
    assert "--image REGISTRY/NAME" in capsys.readouterr().err
    add += ["--remote", "s3://bucket/data"]
    assert call([*add, "--image", "r/i", "--secret", "aws-kyes"]) == 3
    assert "did you mean 'aws-keys'?" in capsys.readouterr().err
    assert call([*add, "--image", "r/i", "--json"]) == 0
    assert "aws-keys" in json.loads(capsys.readouterr().out)["section"]["secrets"]


# --- probing ------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[str]:
    """A server that answers as MLflow does, at the address that pods have for this machine."""
    host = os.environ["MLP_TEST_HOST"]

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
            pass

    with http.server.ThreadingHTTPServer((host, 0), Answer) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://{host}:{listening.server_address[1]}"
        listening.shutdown()


def left_behind(namespace: Namespace) -> list[str]:
    jobs = namespace.get("jobs", "--selector=mlp/probe")["items"]
    return [job["metadata"]["name"] for job in jobs if "deletionTimestamp" not in job["metadata"]]


def test_a_pod_finds_everything_in_order_with_the_least_role(
    checks: Any,
    namespace: Namespace,
    environment_image: str,
    bucket: str,
    server: str,
    least: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as limited:
        limited.setenv("KUBECONFIG", str(least))
        found = checks(
            deep=True, image=environment_image, secrets=["s3-credentials"], tracking_uri=server
        )
    assert "as user 1000" in found["pod"].message
    verdicts = {name: found[name].verdict for name in found if name.startswith("pod")}
    assert verdicts == dict.fromkeys(
        ("pod", "pod mlflow", "pod data", "pod clock"), CheckVerdict.OK
    )
    assert left_behind(namespace) == []


def test_a_pod_says_what_it_cannot_reach(
    checks: Any, namespace: Namespace, environment_image: str, bucket: str
) -> None:
    found = checks(deep=True, image=environment_image, tracking_uri="http://mlflow.nowhere:5000")
    assert found["pod"].verdict == CheckVerdict.OK
    assert found["pod mlflow"].verdict == CheckVerdict.PROBLEM
    assert "targets.gpu.tracking_uri" in found["pod mlflow"].fix
    assert found["pod data"].verdict == CheckVerdict.PROBLEM  # it has no credentials
    assert "targets.gpu.secrets" in found["pod data"].fix


def test_an_image_without_mlp_or_none_at_all_is_told(
    checks: Any, namespace: Namespace, environment_image: str
) -> None:
    without = checks(deep=True, image=os.environ.get("MLP_TEST_BASE_IMAGE", Build().base))["pod"]
    assert without.verdict == CheckVerdict.PROBLEM
    assert "cannot run this version of mlp" in without.message
    missing = f"{os.environ['MLP_TEST_REGISTRY']}/absent:1"
    found = checks(deep=True, image=missing)
    assert (found["image"].verdict, found["pod"].verdict) == (
        CheckVerdict.PROBLEM,
        CheckVerdict.NOTE,
    )
    unreachable = checks(deep=True)["pod"]  # whether the registry has it is not known from here
    assert unreachable.verdict == CheckVerdict.PROBLEM
    assert "the node cannot get the image" in unreachable.message
    assert left_behind(namespace) == []


def test_a_pod_that_never_answers_is_a_problem_with_what_it_waits_for(
    checks: Any, namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe_job, "LIMIT_S", 5)
    terms = [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["nowhere"]}]}]
    node = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    image = os.environ.get("MLP_TEST_BASE_IMAGE", Build().base)
    found = checks(deep=True, image=image, affinity={"nodeAffinity": node})
    assert found["pod"].verdict == CheckVerdict.PROBLEM
    assert found["pod"].message == "no answer from a pod in 5 s: no node matches the affinity"
    assert "targets.gpu.affinity" in found["pod"].fix
    assert left_behind(namespace) == []


def test_a_pod_that_the_namespace_refuses_is_told_at_once(
    checks: Any, namespace: Namespace, environment_image: str
) -> None:
    namespace.kubectl("create", "quota", "none", "--hard=count/pods=0")
    try:
        found = checks(deep=True, image=environment_image)["pod"]
    finally:
        namespace.kubectl("delete", "quota", "none")
    assert (found.verdict, found.message) == (CheckVerdict.PROBLEM, "the probe's pod is refused")
    assert "exceeded quota" in found.cause
    assert "describe quota none" in found.fix
