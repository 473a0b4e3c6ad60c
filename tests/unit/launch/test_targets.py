"""Targets are listed, laid out, and compared with what a cluster has; no cluster is needed."""

import http.server
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mlp.adapters.cluster import NEEDED
from mlp.adapters.params import with_section
from mlp.cli.main import call
from mlp.core.checkup import probe_job
from mlp.core.checkup.health import Check, CheckVerdict
from mlp.core.checkup.probe_job import ProbeAnswer, ProbeQuestion
from mlp.core.launch import target_fit
from mlp.core.launch.target_fit import Node
from mlp.core.launch.targets_section import KubernetesTarget
from mlp.flows.checkup import target_checks
from mlp.flows.project import load
from tests.conftest import BIN, Project

GPU = "nvidia.com/gpu"
DOCS = Path(__file__).parents[3] / "docs"


def target(**more: Any) -> KubernetesTarget:
    return KubernetesTarget.model_validate({"kind": "kubernetes", "image": "r/i:1", **more})


def node(name: str = "n", gpus: int = 4, cpu: int = 8, **more: Any) -> Node:
    return Node(name, allocatable={"pods": 10.0, GPU: float(gpus), "cpu": float(cpu)}, **more)


GPUS_4 = target(resources={"gpu": 4})
TAINT = {"key": "gpu", "value": "yes", "effect": "NoSchedule"}


# --- nodes --------------------------------------------------------------------------------------


def test_a_gang_that_fits_is_told_how_much_room_there_is() -> None:
    found = target_fit.nodes("gpu", GPUS_4, 2, [node("a"), node("b")])
    assert (found.verdict, found.message) == (
        CheckVerdict.OK,
        "room for 2 pods that ask for 4 nvidia.com/gpu, in 2 nodes",
    )


def test_a_pod_larger_than_any_node_is_told_the_largest_and_the_fix() -> None:
    found = target_fit.nodes("gpu", GPUS_4, 1, [node(gpus=2), node(gpus=1)])
    assert found.verdict == CheckVerdict.PROBLEM
    assert found.message == (
        "no node can hold one pod (it asks for 4 nvidia.com/gpu; the largest has 2 nvidia.com/gpu)"
    )
    assert found.fix == "lower targets.gpu.resources.gpu to 2 (mlp.yaml) and raise --nodes"


def test_gpus_of_another_name_are_named() -> None:
    other = Node("n", allocatable={"pods": 9.0, "amd.com/gpu": 8.0, "cpu": 4.0})
    found = target_fit.nodes("gpu", GPUS_4, 1, [other])
    assert "the nodes have: amd.com/gpu" in found.fix


def test_a_gang_larger_than_all_nodes_is_a_problem_and_busy_nodes_only_a_note() -> None:
    nodes = [node("a"), node("b")]
    assert target_fit.nodes("gpu", GPUS_4, 3, nodes).verdict == CheckVerdict.PROBLEM
    busy = target_fit.nodes("gpu", GPUS_4, 2, nodes, {"a": {GPU: 1.0, "pods": 1.0}})
    assert busy.verdict == CheckVerdict.NOTE
    assert "now there is room for 1" in busy.message


@pytest.mark.parametrize(
    ("toleration", "fits"),
    [
        ({}, False),
        ({"operator": "Exists"}, True),
        ({"key": "gpu", "operator": "Exists"}, True),
        ({"key": "gpu", "value": "yes"}, True),
        ({"key": "gpu", "value": "no"}, False),
        ({"key": "gpu", "operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "cpu", "operator": "Exists"}, False),
    ],
)
def test_taints_keep_pods_away_that_do_not_tolerate_them(toleration: Any, fits: bool) -> None:
    tolerating = target(tolerations=[toleration] if toleration else [])
    found = target_fit.nodes("gpu", tolerating, 1, [node(taints=[TAINT])])
    assert (found.verdict == CheckVerdict.OK) == fits
    assert fits or "gpu=yes:NoSchedule" in found.message


def test_nodes_that_take_no_pods_or_lack_the_labels_do_not_count() -> None:
    selecting = target(node_selector={"zone": "x"})
    assert (
        target_fit.nodes("gpu", selecting, 1, [node(labels={"zone": "x"})]).verdict
        == CheckVerdict.OK
    )
    wrong = target_fit.nodes("gpu", selecting, 1, [node(), node(labels={"zone": "y"})])
    assert (wrong.verdict, wrong.message) == (CheckVerdict.PROBLEM, "no node has the labels zone=x")
    assert target_fit.nodes("gpu", target(), 1, [node(ready=False)]).message == "no node is ready"


def test_cordoned_nodes_are_named_with_the_command_that_opens_them() -> None:
    closed = node("b", ready=False, cordoned=True)
    none = target_fit.nodes("gpu", target(), 1, [closed, node("c", ready=False, cordoned=True)])
    assert none.message == "no node takes pods: b, c are cordoned"
    assert none.fix == "kubectl uncordon b c"
    few = target_fit.nodes("gpu", GPUS_4, 2, [node("a"), closed])
    assert few.message.startswith("all nodes together hold 1 of the 2 pods")
    assert few.message.endswith("; b is cordoned")
    assert few.fix == "kubectl uncordon b"
    still_few = target_fit.nodes("gpu", GPUS_4, 5, [node("a"), closed])
    assert still_few.message.endswith("; b is cordoned")
    assert still_few.fix.startswith("lower --nodes to 1")
    busy = target_fit.nodes("gpu", GPUS_4, 1, [node("a"), closed], {"a": {GPU: 1.0, "pods": 1.0}})
    assert busy.message.endswith("a job of 1 waits; b is cordoned")
    assert busy.fix == "kubectl uncordon b"


def test_a_cordoned_node_that_could_not_take_the_pods_is_not_named() -> None:
    closed = [
        node("small", gpus=1, ready=False, cordoned=True),
        node("tainted", taints=[TAINT], ready=False, cordoned=True),
    ]
    found = target_fit.nodes("gpu", GPUS_4, 2, [node("a"), *closed])
    assert "cordoned" not in found.message


def test_a_cluster_that_may_add_nodes_is_not_told_to_be_too_small() -> None:
    pool = {"cloud.google.com/gke-nodepool": "cpus"}
    found = target_fit.nodes("gpu", GPUS_4, 1, [node(gpus=0, labels=pool)])
    assert found.verdict == CheckVerdict.UNKNOWN
    assert found.message.endswith("unless the cluster adds nodes")


# --- quotas and limits --------------------------------------------------------------------------


def quota(hard: dict[str, str], used: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "q"},
        "spec": {"hard": hard, **spec},
        "status": {"hard": hard, "used": used or {}},
    }


ASKING = target(resources={"gpu": 2, "cpu": "500m", "memory": "1Gi"})


@pytest.mark.parametrize(
    ("quotas", "nodes", "verdict", "told"),
    [
        ([], 2, CheckVerdict.OK, "none"),
        ([quota({f"requests.{GPU}": "4"})], 2, CheckVerdict.OK, "enough"),
        ([quota({f"requests.{GPU}": "3"})], 2, CheckVerdict.PROBLEM, "needs 4"),
        (
            [quota({"limits.memory": "2Gi"}, {"limits.memory": "1Gi"})],
            2,
            CheckVerdict.NOTE,
            "waits",
        ),
        ([quota({"pods": "1"})], 2, CheckVerdict.PROBLEM, "needs 2 pods"),
        (
            [quota({"count/jobs.batch": "5"}, {"count/jobs.batch": "5"})],
            1,
            CheckVerdict.PROBLEM,
            "jobs",
        ),
        ([quota({"pods": "1"}, scopes=["BestEffort"])], 2, CheckVerdict.UNKNOWN, "if it counts"),
        ([quota({"requests.storage": "1Gi"})], 2, CheckVerdict.OK, "enough"),
    ],
)
def test_what_is_left_of_a_quota_is_compared_with_the_gang(
    quotas: list[Any], nodes: int, verdict: CheckVerdict, told: str
) -> None:
    [found] = target_fit.quota("gpu", ASKING, nodes, quotas)
    assert found.verdict == verdict
    assert told in found.message


def test_a_quota_that_wants_requests_is_a_problem_for_pods_without() -> None:
    [found] = target_fit.quota("gpu", target(), 1, [quota({"limits.memory": "9Gi"})])
    assert found.verdict == CheckVerdict.PROBLEM
    assert found.fix == "set targets.gpu.resources.memory in mlp.yaml"


def limit_range(**limit: Any) -> list[dict[str, Any]]:
    return [{"metadata": {"name": "l"}, "spec": {"limits": [{"type": "Container", **limit}]}}]


@pytest.mark.parametrize(
    ("ranges", "verdict", "told"),
    [
        ([], CheckVerdict.OK, "none"),
        (limit_range(max={"memory": "1Gi"}, min={"cpu": "100m"}), CheckVerdict.OK, "within"),
        (limit_range(max={"memory": "512Mi"}), CheckVerdict.PROBLEM, "at most 512Mi memory"),
        (limit_range(min={"cpu": "1"}), CheckVerdict.PROBLEM, "at least 1 cpu"),
        (limit_range(default={"memory": "512Mi"}), CheckVerdict.OK, "within"),
    ],
)
def test_one_pod_is_compared_with_the_limit_ranges(
    ranges: list[Any], verdict: CheckVerdict, told: str
) -> None:
    [found] = target_fit.limits("gpu", ASKING, ranges)
    assert found.verdict == verdict
    assert told in found.message


def test_a_default_limit_that_the_pods_get_unasked_is_a_note() -> None:
    [found] = target_fit.limits("gpu", target(), limit_range(default={"memory": "512Mi"}))
    assert (found.verdict, "512Mi" in found.message) == (CheckVerdict.NOTE, True)


# --- the Role -----------------------------------------------------------------------------------


def test_the_documented_role_gives_what_is_checked_and_nothing_else() -> None:
    role, binding = yaml.safe_load_all((DOCS / "role.yaml").read_text())
    given = {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    needed = {
        (right.group, f"{right.resource}/{right.subresource}".rstrip("/"), right.verb)
        for right in NEEDED
    }
    assert given == needed
    assert (role["kind"], binding["roleRef"]["name"]) == ("Role", role["metadata"]["name"])


# --- the probe ----------------------------------------------------------------------------------


texts = st.text(max_size=30)


@given(
    st.builds(
        ProbeAnswer,
        time=st.floats(0, 1e10),
        user=st.integers(0, 2**31),
        python=texts,
        mlp=texts,
        tracking=st.none() | texts,
        remote=st.none() | texts,
    ),
    texts,
)
def test_an_answer_is_found_in_any_log(answer: ProbeAnswer, noise: str) -> None:
    assert probe_job.in_log(f"{noise}\n{answer.to_line()}\n{noise}") == answer


@given(st.text())
def test_no_log_breaks_the_reading(log: str) -> None:
    assert probe_job.in_log(f"mlp probe: {log}") is None or "time" in log


@given(st.none() | texts, st.none() | st.dictionaries(texts, texts), texts)
def test_a_question_arrives_as_it_was(uri: Any, remote: Any, folder: str) -> None:
    question = ProbeQuestion(uri, remote, folder)
    assert ProbeQuestion.from_json(question.to_json()) == question


def test_the_probe_is_placed_as_a_stage_is_and_asks_for_no_gpu() -> None:
    made = probe_job.job(
        "p",
        target(queue="q", node_selector={"a": "b"}, secrets=["s"], resources={"gpu": 4}),
        "r/i:1",
        ProbeQuestion(None, None, "f"),
    )
    pod = made["spec"]["template"]["spec"]
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "q"
    assert made["spec"]["suspend"] is True
    assert pod["nodeSelector"] == {"a": "b"}
    assert pod["automountServiceAccountToken"] is False
    assert GPU not in pod["containers"][0]["resources"]["limits"]
    assert pod["containers"][0]["envFrom"] == [{"secretRef": {"name": "s"}}]


# --- mlp.yaml -----------------------------------------------------------------------------------

SECTION = {"kind": "kubernetes", "image": "r/i", "secrets": ["a", "no"], "resources": {"gpu": 2}}
names = st.from_regex(r"[a-z][a-z0-9_]{0,5}", fullmatch=True).filter(
    lambda name: yaml.safe_load(name) == name  # "no" is none
)
values = st.recursive(
    st.none() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
documents = st.fixed_dictionaries(
    {"project": texts},
    optional={
        "launch": st.dictionaries(names, values, max_size=2),
        "targets": st.none() | st.dictionaries(names, values, max_size=3),
        "zzz": values,
    },
)


@given(documents, names, st.booleans(), st.integers(1, 6))
def test_a_section_is_put_into_any_file_and_nothing_else_changes(
    document: dict[str, Any], name: str, flow: bool, indent: int
) -> None:
    style = None if not flow else True
    text = yaml.safe_dump(
        document, sort_keys=False, allow_unicode=True, default_flow_style=style, indent=indent
    )
    document = yaml.safe_load(text)  # PyYAML does not read back every text that it writes
    made = yaml.safe_load(with_section(text, "targets", name, SECTION))
    targets = {**(document.get("targets") or {}), name: SECTION}
    assert made == {**document, "targets": targets}


COMMENTED = """\
# about all
project: demo   # the name

launch:
    train: { target: gpu,  nodes: 2 }

targets:
    # the first
    gpu:
        kind: kubernetes
        image: 'r/i'   # quoted
        secrets:
          - a
        # the end of gpu

# about the rest
envs:
    prod: {tracking: {uri: "http://m"}}
"""


def test_comments_order_and_style_of_the_rest_are_kept() -> None:
    made = with_section(COMMENTED, "targets", "cpu", SECTION)
    lines = made.splitlines()
    added = [line for line in lines if line not in COMMENTED.splitlines()]
    kept = [line for line in lines if line not in added]
    assert kept == COMMENTED.splitlines()
    assert lines.index("    cpu:") == lines.index("        # the end of gpu") + 1


def test_a_section_is_replaced_where_it_is() -> None:
    made = with_section(COMMENTED, "targets", "gpu", SECTION)
    assert yaml.safe_load(made)["targets"] == {"gpu": SECTION}
    assert made.index("# the first") < made.index("gpu:\n") < made.index("# about the rest")


# --- the command line ---------------------------------------------------------------------------

CONFIG = """\
project: demo
launch: {train: {target: gpu, nodes: 3}}
targets:
  gpu: {kind: kubernetes, image: "127.0.0.1:1/demo:1", resources: {gpu: 2}, queue: q}
  cpu: {kind: kubernetes, context: c, namespace: ml, image: r/cpu}
"""
NOBODY = """\
apiVersion: v1
kind: Config
current-context: here
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: here, context: {cluster: c, user: u}}]
"""


@pytest.fixture
def in_project(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project with two targets of a cluster where nobody answers."""
    project.write({"mlp.yaml": CONFIG})
    (tmp_path / "kubeconfig").write_text(NOBODY)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.chdir(project.root)
    return project


def document(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert call([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_targets_are_listed_with_the_stages_that_go_there(
    in_project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu, cpu = document(capsys, "targets", "list")["targets"]
    assert (gpu["name"], gpu["gpu"], gpu["queue"], gpu["stages"]) == ("gpu", 2, "q", ["train"])
    assert (cpu["context"], cpu["namespace"], cpu["image"]) == ("c", "ml", "r/cpu")


def test_a_cluster_that_does_not_answer_is_a_problem_and_the_rest_is_told(
    in_project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    found = document(capsys, "targets", "check", "gpu", code=3)
    checks = {check["name"]: check for check in found["checks"]}
    assert checks["cluster"]["verdict"] == "problem"
    assert "https://127.0.0.1:1" in checks["cluster"]["message"]
    assert checks["remote"]["fix"] == "dvc remote add --default NAME s3://BUCKET/PATH"
    assert checks["image"]["verdict"] == "unknown"
    assert checks["pod"]["verdict"] == "unknown"


def test_a_context_that_is_not_there_is_a_problem(
    in_project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    found = document(capsys, "targets", "check", "cpu", code=3)
    assert "'c'" in found["checks"][0]["message"]


def test_a_remote_that_only_this_machine_has_is_a_problem(
    in_project: Project, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    in_project.tool("dvc", "remote", "add", "--default", "here", str(tmp_path / "remote"))
    found = document(capsys, "targets", "check", "gpu", code=3)
    [remote] = [check for check in found["checks"] if check["name"] == "remote"]
    assert remote["verdict"] == "problem"
    assert "directory of this machine" in remote["message"]


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["check", "gpuu"], 2, "did you mean 'gpu'?"),
        (["check", "local"], 2, "mlp doctor"),
        (["add", "gpu"], 3, "--force"),
        (["add", "local"], 2, "this machine"),
        (["add", "a.b"], 2, "not a name"),
        (["add", "new"], 5, "cannot reach the cluster"),
        (["add", "new", "--context", "hree"], 3, "did you mean 'here'?"),
    ],
)
def test_what_cannot_be_is_refused_in_words(
    in_project: Project,
    arguments: list[str],
    code: int,
    told: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(["targets", *arguments]) == code
    assert told in capsys.readouterr().err
    assert (in_project.root / "mlp.yaml").read_text() == CONFIG


def test_doctor_checks_a_target_too_and_refuses_an_unknown_one(
    in_project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = ("--config", "targets.gpu.tracking_uri=http://mlflow.ml:5000")
    found = document(capsys, "doctor", "--target", "gpu", *elsewhere, code=3)
    checks = {check["name"]: check for check in found["checks"]}
    assert {"git", "cluster", "image", "remote"} <= set(checks)
    assert "http://mlflow.ml:5000" in checks["tracking"]["message"]  # and the runs in mlflow.db
    assert "tracking: {uri: http://mlflow.ml:5000}" in checks["tracking"]["fix"]
    assert (checks["tracking"]["verdict"], found["next"]) == ("note", [])
    assert call(["doctor", "--target", "gpuu"]) == 2


# --- what a cluster has, as it says so itself ---------------------------------------------------


def objects(*names: str, **more: Any) -> dict[str, Any]:
    return {"items": [{"metadata": {"name": name}, **more} for name in names]}


def described(name: str, gpus: int, *taints: Any) -> dict[str, Any]:
    status = {
        "allocatable": {"cpu": "8", "pods": "10", "amd.com/gpu": str(gpus)},
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    return {"metadata": {"name": name}, "spec": {"taints": taints}, "status": status}


HAS = {
    "/version": {"gitVersion": "v1.34.4"},
    "/api/v1/namespaces": objects("kube-system", "ml", "other"),
    "/api/v1/namespaces/ml": {},
    "/api/v1/namespaces/other": {},
    "/api/v1/namespaces/other/secrets": objects("unrelated", type="Opaque"),
    "/api/v1/nodes": {
        "items": [described("a", 8, TAINT), described("b", 8, TAINT), described("c", 0)]
    },
    "/apis/kueue.x-k8s.io": {"preferredVersion": {"groupVersion": "kueue.x-k8s.io/v1beta1"}},
    "/apis/kueue.x-k8s.io/v1beta1/namespaces/ml/localqueues": objects(
        "gpus", status={"pendingWorkloads": 3, "admittedWorkloads": 1}
    ),
    "/api/v1/namespaces/ml/persistentvolumeclaims": objects("one", spec={}),
    "/api/v1/namespaces/ml/services": objects("other", spec={}),
    "/api/v1/namespaces/ml/secrets": {
        "items": [
            {"metadata": {"name": "minio"}, "type": "Opaque", "data": {"k": "aGlkZGVu"}},
            {"metadata": {"name": "pull"}, "type": "kubernetes.io/dockerconfigjson"},
        ]
    },
}


# What a test made in the cluster, by the path that it was sent to.
Made = list[tuple[str, Any]]
KEYS = {"AWS_ACCESS_KEY_ID": "the-id-of-a-key", "AWS_SECRET_ACCESS_KEY": "what-nobody-may-see"}
OTHERS = ("AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION")


@pytest.fixture
def made() -> Made:
    return []


@pytest.fixture
def answering(
    in_project: Project, made: Made, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Project]:
    """The project, with a cluster behind its kubeconfig that answers with HAS."""
    for name in (*KEYS, *OTHERS, "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)

    class Api(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path.endswith("/secrets"):
                made.append((self.path, json.loads(body)))
            self.send_response(201 if self.path.endswith("/secrets") else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            found = HAS.get(self.path.partition("?")[0])
            body = json.dumps(found if found is not None else {"message": "none"}).encode()
            self.send_response(200 if found is not None else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api) as api:
        threading.Thread(target=api.serve_forever, daemon=True).start()
        config = yaml.safe_load(NOBODY)
        config["clusters"][0]["cluster"]["server"] = f"http://127.0.0.1:{api.server_address[1]}"
        config["contexts"][0]["context"]["namespace"] = "ml"
        config["contexts"].append({"name": "there", "context": {"cluster": "c", "user": "u"}})
        path = Path(os.environ["KUBECONFIG"])
        path.write_text(yaml.safe_dump(config))
        in_project.environ["KUBECONFIG"] = str(path)
        yield in_project
        api.shutdown()


ADD = ("targets", "add", "new", "--image", "r/new", "--remote", "s3://bucket/data")


def test_everything_that_is_found_is_proposed(
    answering: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = document(capsys, *ADD, "--dry-run")
    assert shown["section"] == {
        "kind": "kubernetes",
        "context": "here",
        "namespace": "ml",
        "image": "r/new",
        "resources": {"gpu": 8, "gpu_resource": "amd.com/gpu"},
        "queue": "gpus",
        "secrets": ["minio"],
        "image_pull_secrets": ["pull"],
        "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
    }
    assert shown["next"][0] == "mlp build new"
    found = {each["key"]: each["alternatives"] for each in shown["found"]}
    assert (found["context"], found["namespace"]) == (["here", "there"], ["ml", "other"])
    assert "hidden" not in json.dumps(shown)
    assert (answering.root / "mlp.yaml").read_text() == CONFIG


def test_a_kueue_that_is_being_removed_is_taken_for_none(
    answering: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(HAS, "/apis/kueue.x-k8s.io", {"kind": "APIGroup", "versions": []})
    assert "queue" not in document(capsys, *ADD, "--dry-run")["section"]


def test_a_queue_that_is_not_there_is_answered_with_those_that_are(
    answering: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call([*ADD, "--queue", "gpu"]) == 3
    assert "(have: gpus), did you mean 'gpus'?" in capsys.readouterr().err


def test_on_a_terminal_each_value_is_asked_for(answering: Project) -> None:
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [str(BIN / "mlp"), "targets", "add", "new"],
        cwd=answering.root,
        env=answering.environ,
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    answers = {"context": "", "namespace": "", "image": "r/mine", "base": "", "gpus": "2"}
    shared = {"queue": "", "remote": "s3://bucket/data", "endpoint": "http://s3.example:9000"}
    rest = {"secrets": "minio", "image_pull_secrets": "-", "tracking_uri": ""}
    lines = [*answers.values(), *shared.values(), *rest.values()]
    os.write(ours, "".join(f"{line}\n" for line in lines).encode())
    _, err = process.communicate()
    os.close(ours)
    os.close(theirs)
    assert process.returncode == 0, err.decode()
    assert b"there are: here, there" in err
    assert b"mlflow server --host 0.0.0.0" in err  # how to start a server that pods reach
    made = yaml.safe_load((answering.root / "mlp.yaml").read_text())["targets"]["new"]
    assert (made["image"], made["resources"]["gpu"], made["queue"]) == ("r/mine", 2, "gpus")
    assert (made["secrets"], "image_pull_secrets" in made) == (["minio"], False)
    remotes = answering.tool("dvc", "config", "--list")
    assert "remote.storage.url=s3://bucket/data" in remotes
    assert "remote.storage.endpointurl=http://s3.example:9000" in remotes
    assert "core.remote=storage" in remotes


# --- what pods share with this machine ----------------------------------------------------------


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials in this machine's variables."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)


def test_credentials_become_a_secret_and_are_written_nowhere_else(
    answering: Project, made: Made, keys: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call([*ADD, "--make-secret", "keys", "--dry-run"]) == 0
    assert made == []
    assert call([*ADD, "--make-secret", "keys"]) == 0
    [(path, secret)] = made
    assert (path, secret["metadata"]["name"]) == ("/api/v1/namespaces/ml/secrets", "keys")
    assert secret["stringData"] == KEYS
    written = capsys.readouterr()
    for file in ("mlp.yaml", ".dvc/config"):
        assert KEYS["AWS_SECRET_ACCESS_KEY"] not in (answering.root / file).read_text()
    assert KEYS["AWS_SECRET_ACCESS_KEY"] not in written.out + written.err
    assert load(answering.root).config.targets["new"].secrets == ["keys"]


def test_a_script_gets_the_command_that_makes_the_secret_without_its_values(
    answering: Project, made: Made, keys: None, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = document(capsys, *ADD, "--namespace", "other")
    assert shown["section"]["secrets"] == ["s3-credentials"]
    command = "kubectl create secret generic s3-credentials --namespace other --context here"
    literals = " ".join(f'--from-literal={name}="${name}"' for name in KEYS)
    assert shown["next"][0] == f"{command} {literals}"
    assert made == []


def test_credentials_that_are_not_here_make_no_secret(
    answering: Project, made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call([*ADD, "--make-secret", "keys"]) == 3
    assert "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in capsys.readouterr().err
    assert "secrets" not in document(capsys, *ADD, "--namespace", "other", "--dry-run")["section"]


@pytest.fixture
def listening() -> Iterator[str]:
    """A server at an address that is not this machine's name for itself."""
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        yield f"http://[::ffff:127.0.0.1]:{server.server_address[1]}"


def test_a_server_that_this_machine_reaches_too_is_the_projects(
    answering: Project, listening: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = document(capsys, *ADD, "--tracking-uri", listening)
    loaded = load(answering.root)
    assert (shown["tracking_uri"], loaded.tracking_uri) == (listening, listening)
    assert loaded.config.targets["new"].tracking_uri is None  # the project's


def test_a_server_that_only_pods_reach_is_the_targets_and_that_is_said(
    answering: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    away = "http://[::ffff:127.0.0.1]:1"
    shown = document(capsys, *ADD, "--tracking-uri", away, "--dry-run")
    assert (shown["section"]["tracking_uri"], shown["tracking_uri"]) == (away, None)
    assert any("--project-tracking-uri" in note for note in shown["notes"])
    both = ("--tracking-uri", away, "--project-tracking-uri", "https://mlflow.example")
    shown = document(capsys, *ADD, *both, "--dry-run")
    assert shown["section"]["tracking_uri"] == away
    assert shown["tracking_uri"] == "https://mlflow.example"


@pytest.mark.parametrize("option", ["--tracking-uri", "--endpoint"])
def test_an_address_that_means_the_pod_itself_is_refused(
    answering: Project, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call([*ADD, option, "http://localhost:5000"]) == 3
    told = capsys.readouterr().err
    assert "pods cannot reach http://localhost:5000" in told
    assert ("mlflow server --host 0.0.0.0" in told) == (option == "--tracking-uri")


def test_what_nobody_can_guess_is_asked_of_a_script_at_once(
    answering: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    answering.write({"mlp.yaml": "project: demo\n"})
    assert call(["targets", "add", "new", "--yes"]) == 2
    assert "--image REGISTRY/NAME --remote s3://BUCKET/PATH" in capsys.readouterr().err
    assert (answering.root / "mlp.yaml").read_text() == "project: demo\n"


def test_a_remote_that_is_there_is_taken_and_what_it_needs_is_the_first_step(
    answering: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    answering.tool("dvc", "remote", "add", "--default", "theirs", "gs://bucket/data")
    before = (answering.root / ".dvc" / "config").read_text()
    shown = document(capsys, "targets", "add", "new", "--image", "r/new", "--yes")
    assert shown["remote"] is None
    assert (answering.root / ".dvc" / "config").read_text() == before
    steps = ["mlp build new", "mlp doctor --target new", "mlp train --target new"]
    assert shown["next"] == ["pip install dvc-gs", *steps]


@pytest.mark.parametrize("remote", ["/srv/data", "../data", "nothing://bucket/data"])
def test_a_remote_that_pods_cannot_use_is_refused(
    answering: Project, remote: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["targets", "add", "new", "--image", "r/new", "--remote", remote]) == 3
    assert remote.partition(":")[0] in capsys.readouterr().err
    assert (answering.root / "mlp.yaml").read_text() == CONFIG


def test_a_default_remote_of_this_machine_alone_is_told_before_anything_is_written(
    answering: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answering.tool("dvc", "remote", "add", "--local", "--default", "mine", str(tmp_path))
    assert call([*ADD]) == 3
    assert "dvc remote default --local --unset" in capsys.readouterr().err
    assert (answering.root / "mlp.yaml").read_text() == CONFIG


def test_how_an_image_is_built_here_is_said_once(
    answering: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--build-flag=--volume=/a:/b", "--build-flag=--pull", "--push-flag=--tls-verify=false")
    shown = document(capsys, *ADD, "--base", "r/python:3.12", *flags, "--dry-run")
    assert shown["section"]["build"] == {
        "base": "r/python:3.12",
        "flags": ["--volume=/a:/b", "--pull"],
        "push_flags": ["--tls-verify=false"],
    }


def test_clocks_that_differ_by_more_than_half_a_minute_are_a_problem() -> None:
    from mlp.flows.checkup import target_probing

    now = time.time()
    question = ProbeQuestion(None, None, "f")

    def clock(there: float) -> Check:
        answer = ProbeAnswer(there, 1000, "3.11", "0.1", None, None)
        return [*target_probing.judge("gpu", question, answer, now - 5)][-1]

    assert clock(now - 20).verdict == CheckVerdict.OK
    assert clock(now - 100).message == "the pod's clock is 95 s behind this machine's"
    assert clock(now + 1000).verdict == CheckVerdict.PROBLEM


def test_a_queue_tells_how_many_wait_in_it(answering: Project) -> None:
    loaded = load(answering.root, settings=["targets.gpu.queue=gpus", "targets.gpu.namespace=ml"])
    target = loaded.config.targets["gpu"].model_copy(update={"context": "here"})
    checks = target_checks.before_launch(loaded, "gpu", target, 1)
    [queue] = [check for check in checks if check.name == "queue"]
    assert queue.message == "LocalQueue gpus is there: 3 wait in it, 1 were let in"
