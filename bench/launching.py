"""What mlp adds to the launch of a stage in a cluster.

Submission: from the start of `mlp train --target` to the Job, as a watch of the API server sees it,
against `kubectl apply` of the same manifest; everything the Job needs is in the remote already, and
the Job is suspended, so that no pod is at work meanwhile. Start: from the last main container's
first process to the first line of the user's code, against the same image that runs the same
command by hand, alone and as a gang of two pods under torchrun. Prints one JSON document; seconds
are medians.
"""

import argparse
import json
import resource
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import clusters
import turns
import yaml
from clusters import Arrivals, Place

# Seconds since this machine started, when process 1 of the pod began and now: the pods of a gang
# run on one kernel here, and their times can be compared.
_CODE = (
    "import time; now = time.clock_gettime(time.CLOCK_BOOTTIME); "
    "start = int(open('/proc/1/stat').read().rsplit(')', 1)[1].split()[19]) / 100; "
    "print('FIRST', start, now, flush=True)"
)
_COMMAND = f'python -c "{_CODE}"'
_LIMIT_SUBMISSION, _LIMIT_START = 1.5, 2.0
_GANG = {"nodes": 2, "strategy": "ddp"}


def submission(place: Place, count: int) -> dict[str, Any]:
    """Seconds from the command to the Job, of both, in turns."""
    stages = {
        "prep": {"cmd": "echo data > data.txt", "outs": ["data.txt"]},
        "train": {"cmd": "cp data.txt model.txt", "deps": ["data.txt"], "outs": ["model.txt"]},
    }
    directory = place.project("submission", stages, patch={"spec": {"suspend": True}})
    clusters.mlp(directory, "run", "prep", CI="true")
    clusters.commit(directory)
    manifest = clusters.planned(directory, "--target", "gpu")[0]
    file = place.folder / "submission.yaml"
    file.write_text(yaml.safe_dump(manifest), encoding="utf-8")
    arrivals = Arrivals(place.namespace)

    def by_kubectl() -> None:
        place.kubectl("apply", f"--filename={file}")

    def by_mlp() -> None:
        clusters.mlp(directory, "train", "--target", "gpu", "--detach")

    def again() -> None:
        place.remove_jobs()
        _await_recorders(directory)
        # What was left in the cluster would be gone on with.
        shutil.rmtree(directory / ".mlp" / "runs", ignore_errors=True)

    by_mlp()  # pushes code and data
    again()
    found: dict[str, list[float]] = {"kubectl apply": [], "mlp train": []}
    cpu: dict[str, list[float]] = {"kubectl apply": [], "mlp train": []}
    ways: Mapping[str, Callable[[], None]] = {"kubectl apply": by_kubectl, "mlp train": by_mlp}
    for turn in range(count):
        for name, submit in ways.items():
            start, before = time.monotonic(), _processor()
            submit()
            cpu[name].append(_processor() - before)
            at, _ = arrivals.wait(clusters.added, start)
            found[name].append(at - start)
            again()
        _tell(turn, count, found)
    excess = _excess(found, "mlp train", "kubectl apply")
    return {"seconds": _medians(found), "cpu": _medians(cpu), "excess": excess}


def _processor() -> float:
    """Seconds of processor time of all that was started from here and has ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _await_recorders(directory: Path) -> None:
    """Until what a detached run has recorded so far is delivered: nothing is at work any more."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        files = [run / "delivery.json" for run in (directory / ".mlp" / "runs").glob("*/")]
        if all(f.is_file() and json.loads(f.read_text(encoding="utf-8"))["done"] for f in files):
            return
        time.sleep(0.1)


def start(place: Place, count: int, launch: Mapping[str, Any]) -> dict[str, Any]:
    """Seconds from the last main container's start to the first line of code, of both, in turns."""
    nodes = int(launch.get("nodes", 1))
    name = f"start-{nodes}"
    stages = {"train": {"cmd": f"{_COMMAND} && echo done > out.txt", "outs": ["out.txt"]}}
    directory = place.project(
        name,
        stages,
        launch={"train": {"target": "gpu", **launch}},
        resources={"cpu": "500m", "memory": "1Gi"},
    )
    by_hand = [_by_hand(m, nodes) for m in clusters.planned(directory)]
    arrivals = Arrivals(place.namespace)

    def bare() -> Sequence[str]:
        begin = time.monotonic()
        place.kubectl("apply", "--filename=-", stdin=yaml.safe_dump_all(by_hand))
        _, event = arrivals.wait(clusters.completed, begin)
        label = f"batch.kubernetes.io/job-name={event['object']['metadata']['name']}"
        return place.kubectl("logs", "--container=stage", f"--selector={label}").splitlines()

    def ours() -> Sequence[str]:
        done = clusters.mlp(directory, "train", "--force", "--all-ranks", CI="true")
        return done.stderr.splitlines()

    ways = {"by hand": bare, "mlp": ours}
    found: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(-1, count):  # the first one brings the image to the nodes
        for way, run in ways.items():
            seconds = _first_line(run(), nodes)
            if turn >= 0:
                found[way].append(seconds)
            place.remove_jobs()
        _tell(turn, count, found)
    return {"seconds": _medians(found), "excess": _excess(found, "mlp", "by hand")}


def _by_hand(manifest: dict[str, Any], nodes: int) -> dict[str, Any]:
    """The same Job, or Service, without mlp in its pods."""
    if manifest["kind"] != "Job":
        return manifest
    pod = manifest["spec"]["template"]["spec"]
    pod.pop("initContainers")
    [container] = pod["containers"]
    name = manifest["metadata"]["name"]
    gang = [
        *("torchrun", f"--nnodes={nodes}", "--nproc-per-node=1", "--rdzv-backend=c10d"),
        *(f"--rdzv-endpoint={name}-0.{name}:29400", f"--rdzv-id={name}", "--no-python"),
    ]
    container["command"] = [*(gang if nodes > 1 else ()), "python", "-c", _CODE]
    return manifest


def _first_line(lines: Sequence[str], nodes: int) -> float:
    """From when the last container had begun until the first of the ranks was in its code."""
    times = [line.partition("FIRST ")[2].split() for line in lines if "FIRST " in line]
    if len(times) != nodes:
        raise SystemExit("\n".join(["not all pods have said when they began:", *lines]))
    return min(float(now) for _, now in times) - max(float(began) for began, _ in times)


def _excess(found: Mapping[str, Sequence[float]], ours: str, theirs: str) -> float:
    pairs = zip(found[ours], found[theirs], strict=True)
    return round(statistics.median(a - b for a, b in pairs), 3)


def _medians(found: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {name: round(statistics.median(seconds), 3) for name, seconds in found.items()}


def _tell(turn: int, count: int, found: Mapping[str, Sequence[float]]) -> None:
    last = ", ".join(f"{name} {seconds[-1]:.2f} s" for name, seconds in found.items() if seconds)
    print(f"turn {turn + 1}/{count}: {last}", file=sys.stderr)


def main() -> None:
    """Measure, and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--only", choices=("submission", "one", "gang"))
    options = parser.parse_args()
    parts: dict[str, Callable[[Place], dict[str, Any]]] = {
        "submission": lambda place: submission(place, options.turns),
        "one": lambda place: start(place, options.turns, {}),
        "gang": lambda place: start(place, options.turns, _GANG),
    }
    titles = {
        "submission": "from `mlp train --target` to the Job, above `kubectl apply`",
        "one": "container's start to the first line of code, above the same by hand",
        "gang": "the same for a gang of two pods, above torchrun by hand",
    }
    with clusters.place() as place:
        results = {
            name: measure(place) for name, measure in parts.items() if options.only in (None, name)
        }
    figures = [
        turns.figure(
            titles[name],
            result["excess"],
            at_most=_LIMIT_SUBMISSION if name == "submission" else _LIMIT_START,
            unit="s",
            note=", ".join(f"{way} {s:.2f} s" for way, s in result["seconds"].items()),
        )
        for name, result in results.items()
    ]
    print(json.dumps({"figures": figures, **results}, indent=2))


if __name__ == "__main__":
    main()
