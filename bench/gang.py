"""A gang of a thousand nodes with eight GPUs each, on nodes that are simulated.

`python bench/gang.py NODES...`; the cluster is to have as many nodes of `type: simulated`, whose
pods run for the time in an annotation. For each number of nodes: the plan, a run from its start to
its end against the bare Job (`kubectl apply` of the same manifest until it is complete), and, while
all nodes are taken, another gang that waits: submission, list, explain, cancel. Told are seconds,
requests to the API server, and peak memory of mlp's processes. Where no kubelet is, no worker runs:
the result that the job's first pod would leave is written here. Prints one JSON document.
"""

import argparse
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import clusters
import turns
import yaml
from clusters import Arrivals, Place

_RUN_S = 30
_RUN_FOR = "localkube/run-for"
_GPUS = 8
_LIMIT_S, _LIMIT_MB = 5.0, 200.0
_COUNTED = "BENCH_COUNTED"
# Counts the requests of every mlp process below us, and tells its peak memory at its end.
_COUNTING = f"""\
import atexit, importlib.abc, importlib.util, json, os, re, sys, time

counts = {{}}

class Counting(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "mlp.adapters.cluster.connection":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module
        def exec_module(module):
            load(module)
            whole = module.Cluster._request
            def counted(self, method, path, *arguments, **named):
                query = arguments[0] if arguments else {{}}
                kind = "WATCH" if query.get("watch") else method
                found = re.search(r"/v1[a-z0-9]*/(?:namespaces/[^/]+/)?([a-z]+)", path)
                what = found[1] if found else path
                what += "/log" if path.endswith("/log") else ""
                counts[f"{{kind}} {{what}}"] = 1 + counts.get(f"{{kind}} {{what}}", 0)
                return whole(self, method, path, *arguments, **named)
            module.Cluster._request = counted
        spec.loader.exec_module = exec_module
        return spec

def tell():
    with open("/proc/self/status") as file:
        peak = next(int(line.split()[1]) / 1000 for line in file if line.startswith("VmHWM"))
    with open("/proc/self/cmdline") as file:
        command = file.read().split("\\0")
    with open(os.environ["{_COUNTED}"], "a") as file:
        print(json.dumps({{"command": command, "requests": counts, "mb": peak}}), file=file)

if "{_COUNTED}" in os.environ:
    sys.meta_path.insert(0, Counting())
    atexit.register(tell)
"""


class Counted:
    """mlp in a project, with its requests and its memory."""

    def __init__(self, place: Place, directory: Path) -> None:
        self._directory = directory
        self._file = directory.parent / f"{directory.name}.counted"
        hook = place.folder / "counting"
        hook.mkdir(exist_ok=True)
        (hook / "sitecustomize.py").write_text(_COUNTING, encoding="utf-8")
        self._variables = {"PYTHONPATH": str(hook), _COUNTED: str(self._file)}

    def __call__(self, *arguments: str) -> dict[str, Any]:
        """What `mlp ARGUMENTS` took; the recorder, which runs on, is left out."""
        self._file.unlink(missing_ok=True)
        start = time.monotonic()
        done = clusters.mlp(self._directory, *arguments, **self._variables)
        seconds = time.monotonic() - start
        requests: Counter[str] = Counter()
        peak = 0.0
        for line in self._file.read_text(encoding="utf-8").splitlines():
            process = json.loads(line)
            if "mlp.runtime.runs.recorder" in process["command"]:
                continue
            requests.update(process["requests"])
            peak = max(peak, process["mb"])
        total = sum(requests.values())
        print(f"mlp {' '.join(arguments)}: {seconds:.1f} s, {total} requests", file=sys.stderr)
        return {
            "seconds": round(seconds, 2),
            "requests": total,
            "by_kind": dict(sorted(requests.items())),
            "mb": round(peak, 1),
            "output": (done.stderr + done.stdout)[-2000:],
        }


# How often these are asked while a job runs depends on time alone. Of a pod whose node has no
# kubelet there is no log, and it is asked for again each second.
_OF_THE_TIME = ("GET jobs", "WATCH jobs", "GET pods", "GET pods/log", "WATCH pods")


def measure(place: Place, nodes: int) -> dict[str, Any]:
    """Everything for a gang of so many nodes."""
    there = place.kubectl("get", "nodes", "--selector=type=simulated", "--output=name").split()
    if len(there) < nodes:
        raise SystemExit(f"the cluster has {len(there)} simulated nodes, and {nodes} are needed")
    directory = _project(place, nodes, [name.removeprefix("node/") for name in there])
    mlp = Counted(place, directory)
    arrivals = Arrivals(place.namespace)
    _results(place, directory, arrivals)
    mlp("run", "train", "--dry-run")  # DVC makes its own files
    found: dict[str, Any] = {"plan": mlp("run", "train", "--dry-run")}
    manifests = clusters.planned(directory, "--nodes", str(nodes))
    start = time.monotonic()
    place.kubectl("apply", "--filename=-", stdin=yaml.safe_dump_all(manifests))
    at, _ = arrivals.wait(clusters.completed, start, 600.0)
    found["bare"] = {"seconds": round(at - start, 2)}
    print(f"the bare job: {at - start:.1f} s", file=sys.stderr)
    place.remove_jobs()
    found["run"] = mlp("run", "train")
    place.remove_jobs()
    found |= _waiting(place, mlp)
    place.remove_jobs()
    return found


def _project(place: Place, nodes: int, there: Sequence[str]) -> Path:
    """A stage that ends by itself, one that keeps all nodes, and another."""
    launch = {"target": "gpu", "nodes": nodes, "processes_per_node": _GPUS, "strategy": "ddp"}
    terms = [{"key": "kubernetes.io/hostname", "operator": "In", "values": list(there[:nodes])}]
    required = {"nodeSelectorTerms": [{"matchExpressions": terms}]}
    only = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    directory = place.project(
        f"gang-{nodes}",
        {name: {"cmd": f"echo {name}"} for name in ("train", "keep", "other")},
        launch={"train": launch, "keep": {**launch, "target": "long"}, "other": launch},
        resources={"gpu": _GPUS, "cpu": "8", "memory": "64Gi"},
        node_selector={"type": "simulated"},
        tolerations=[{"key": "simulated", "operator": "Exists"}],
        annotations={_RUN_FOR: f"{_RUN_S}s"},
        affinity=only if nodes < len(there) else {},
    )
    file = directory / "mlp.yaml"
    config = yaml.safe_load(file.read_text(encoding="utf-8"))
    gpu = config["targets"]["gpu"]
    config["targets"]["long"] = {**gpu, "annotations": {_RUN_FOR: "1h"}}
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    clusters.commit(directory)
    return directory


def _waiting(place: Place, mlp: Counted) -> dict[str, Any]:
    """A gang that takes all nodes, and another one that waits for them."""
    found = {"submission": mlp("run", "keep", "--detach")}
    mlp("run", "other", "--detach")
    _await_unschedulable(place)
    found["list"] = mlp("jobs", "list")
    found["explain"] = mlp("jobs", "explain", "other")
    found["cancel"] = mlp("jobs", "cancel", "other")
    return found


def _await_unschedulable(place: Place) -> None:
    """Until the scheduler has seen all pods and says why it has no node for the second gang."""
    until = time.monotonic() + 120
    template = "--output=jsonpath={range .items[*]}{.status.conditions[0].reason}{'\\n'}{end}"
    while time.monotonic() < until:
        reasons = place.kubectl(
            "get", "pods", "--selector=mlp/stage=other", template, "--chunk-size=0"
        ).split()
        if reasons and all(reason == "Unschedulable" for reason in reasons):
            return
        time.sleep(1)
    raise SystemExit("the second gang does not wait")


def _results(place: Place, directory: Path, arrivals: Arrivals) -> None:
    """Leave for every job of mlp's the result that its first pod would leave."""
    from mlp.adapters import data
    from mlp.core.launch import job_spec as jobs
    from mlp.core.launch.job_spec import JobSpec

    storage = data.storage(directory)
    done: set[str] = set()

    def leave() -> None:
        while True:
            _, event = arrivals.wait(
                lambda e: clusters.added(e) and e["object"]["metadata"]["uid"] not in done,
                patience=86400.0,
            )
            metadata = event["object"]["metadata"]
            done.add(metadata["uid"])
            spec = JobSpec.from_json(metadata["annotations"][jobs.ANNOTATION_SPEC])
            content = json.dumps({"outs": [], "inputs": {}, "files": None}).encode()
            storage.write(f"{spec.folder(metadata['uid'])}/{jobs.RESULT}", content)

    threading.Thread(target=leave, daemon=True).start()


def figures(found: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of the largest gang, with the smallest beside it."""
    sizes = sorted(found, key=int)
    small, large = found[sizes[0]], found[sizes[-1]]
    gang = f"gang of {int(sizes[-1]):,} nodes x {_GPUS} GPUs"
    commands = ("plan", "submission", "run", "list", "explain", "cancel")

    def requests(of: Mapping[str, Any], name: str) -> int:
        kinds: Mapping[str, int] = of[name]["by_kind"]
        left_out = _OF_THE_TIME if name == "run" else ()
        return sum(count for kind, count in kinds.items() if kind not in left_out)

    most = max(commands, key=lambda name: large[name]["mb"])
    grown = {n: requests(large, n) - requests(small, n) for n in commands}
    worst = max(grown, key=lambda name: grown[name])
    excess = round(large["run"]["seconds"] - large["bare"]["seconds"], 2)
    return [
        turns.figure(
            f"{gang}: `mlp run` above the bare Job",
            excess,
            at_most=_LIMIT_S,
            unit="s",
            note=f"the Job {large['bare']['seconds']:.1f} s, pods run for {_RUN_S} s",
        ),
        turns.figure(
            f"{gang}: peak memory of mlp",
            large[most]["mb"],
            at_most=_LIMIT_MB,
            unit="MB",
            note=f"the most, in {most}; with {sizes[0]} nodes {small[most]['mb']:.0f} MB",
        ),
        turns.figure(
            f"{gang}: requests above those for {sizes[0]} nodes",
            grown[worst],
            at_most=0,
            unit="requests",
            note=", ".join(f"{n} {requests(large, n)}" for n in commands)
            + f"; with {sizes[0]} nodes: "
            + ", ".join(f"{n} {requests(small, n)}" for n in commands),
        ),
    ]


def main() -> None:
    """Measure, and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nodes", nargs="*", type=int, default=[10, 1000])
    options = parser.parse_args()
    with clusters.place() as place:
        found = {str(nodes): measure(place, nodes) for nodes in options.nodes}
    print(json.dumps({"figures": figures(found), "gangs": found}, indent=2))


if __name__ == "__main__":
    main()
