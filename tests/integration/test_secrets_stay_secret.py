"""No secret gets into a run, an event file, a log, an error or the terminal."""

import json
from collections.abc import Iterator

import pytest

from tests.conftest import Done, Make, Project, single

pytestmark = pytest.mark.slow

TOKEN = "tok-5f3a9b\\\"'é$x"  # with what JSON and a shell have to quote
GIT, GIT_TOKEN, DVC, TRACKING = "gitpass77", "ghp_abcdefgh", "dvcpass88", "trackpass99"
SECRETS = (TOKEN, GIT, GIT_TOKEN, DVC, TRACKING)

SCRIPT = f"""
import os, sys, time
import mlflow, mlp
token = os.environ["MY_API_TOKEN"]
for part in token:  # in pieces
    sys.stdout.write(part)
    sys.stdout.flush()
print(flush=True)  # before the next line, which is standard error's
print("to stderr", token, file=sys.stderr)
print("curl https://me:{GIT}@host/ and https://{GIT_TOKEN}@host/x?token={TRACKING}")
mlflow.log_param("token", token)
mlflow.set_tag("token " + token, "https://me:{GIT}@host")
with mlflow.start_run(nested=True, run_name="run of " + token):
    pass
if "fail" in sys.argv:
    raise RuntimeError("cannot log in with " + token)
"""


def project_with_secrets(make_project: Make, uri: str, *arguments: str) -> tuple[Project, Done]:
    command = f": https://me:{GIT}@host; python train.py {' '.join(arguments)}"
    project = make_project(
        {
            "dvc.yaml": single("train", command, params=["key"], deps=["train.py"]),
            "params.yaml": json.dumps({"key": "none"}),
            "train.py": SCRIPT if "fail" in arguments else SCRIPT + "\nopen('x', 'w')",
            "mlp.yaml": json.dumps({"project": "demo", "tracking": {"uri": uri}}),
        }
    )
    project.tool("git", "remote", "add", "origin", f"https://me:{GIT}@example.com/x.git")
    project.tool("git", "remote", "add", "other", f"https://{GIT_TOKEN}@example.com/x.git")
    project.tool("dvc", "remote", "add", "r", f"https://me:{DVC}@example.com/")
    project.write({"notes.txt": f"the token is {TOKEN}\nsee https://me:{GIT}@host\n"})
    done = project.mlp("run", "--set", f"key={json.dumps(TOKEN)}", MY_API_TOKEN=TOKEN)
    return project, done


def leaks(project: Project, done: Done) -> Iterator[str]:
    """Where a secret, or a quoted form of one, is to be found."""
    places = {"the terminal": (done.out + done.err).encode()}
    for top in (".mlp", "mlartifacts", "mlflow.db"):
        path = project.root / top
        for file in path.rglob("*") if path.is_dir() else [path]:
            if file.is_file():
                places[str(file.relative_to(project.root))] = file.read_bytes()
    for place, content in places.items():
        for secret in SECRETS:
            for form in {secret, json.dumps(secret)[1:-1], repr(secret)[1:-1]}:
                if form.encode() in content:
                    yield f"{form!r} in {place}"


@pytest.mark.parametrize("outcome", ["well", "fail"])
def test_in_a_run_that_is_delivered(make_project: Make, outcome: str) -> None:
    project, done = project_with_secrets(make_project, "sqlite:///mlflow.db", outcome)
    assert done.code == (6 if outcome == "fail" else 0), done.err
    recorded = project.recorded()
    assert list(leaks(project, done)) == []
    # It is masked, not missing.
    run = recorded.stage("train")
    assert run.data.params["token"] == "***"
    assert set(recorded.text(run, "logs/log.txt").splitlines()) >= {
        "***",
        "to stderr ***",
        "curl https://***@host/ and https://***@host/x?token=***",
    }
    pipeline = recorded.pipelines[0]
    assert "+the token is ***" in recorded.text(pipeline, "mlp/code.patch")
    remotes = json.loads(recorded.text(pipeline, "mlp/provenance.json"))["code"]["remotes"]
    assert remotes["origin"] == "https://***@example.com/x.git"


def test_in_a_run_whose_server_is_away(make_project: Make) -> None:
    uri = f"http://me:{TRACKING}@127.0.0.1:1"
    project, done = project_with_secrets(make_project, uri, "well")
    assert done.code == 0
    assert "http://***@127.0.0.1:1" in done.out
    project.stop_recorders()
    assert list(leaks(project, done)) == []


def test_in_an_error_of_git_or_of_the_configuration(project: Project) -> None:
    project.write({"mlp.yaml": f"project: x\ntracking: {{urj: 'http://me:{TRACKING}@host'}}\n"})
    done = project.mlp("run")
    assert done.code == 3
    assert TRACKING not in done.out + done.err
    assert not (project.root / ".mlp").exists()
