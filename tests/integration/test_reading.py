"""Commands that only read answer at once: none of them imports MLflow."""

import json

from tests.conftest import Make, single

SCRIPT = """
import json, sys
from mlp.cli.main import call
sys.argv, commands = ["mlp"], json.loads(sys.argv[1])
for command in commands:
    code = call(command.split())
    print(json.dumps([command, code, "mlflow" in sys.modules]), file=sys.stderr)
"""


def test_commands_that_only_read_import_no_mlflow(make_project: Make) -> None:
    config = "project: demo\nmodel: {name: m}\nserve: {log: predictions/}\n"
    project = make_project({"mlp.yaml": config, "dvc.yaml": single("s", "echo x > o", outs=["o"])})
    for force in ((), ("--force",)):
        assert project.mlp("run", *force).code == 0
    first, second = (run.data.tags["mlp.run_id"] for run in project.recorded().pipelines)
    commands = [
        *(
            "runs list",
            "runs show last",
            f"runs diff {first} {second}",
            f"runs why {first} {second}",
        ),
        *("models list", "models history", "ab status", "lineage o", "status"),
    ]
    script = f"{SCRIPT.strip()}\n"
    project.tool("sh", "-c", f"python -c '{script}' '{json.dumps(commands)}' 2>told")
    told = [
        json.loads(line)
        for line in (project.root / "told").read_text().splitlines()
        if line[0] == "["
    ]
    assert told == [[command, 0, False] for command in commands]
